"""Rules L2, L7 and A12 where no other test has its eye on them."""

from __future__ import annotations

import pytest
from django.test import Client

from bots import answering
from bots.models import Message
from bots.sentences import say
from inference import worker
from monitoring.models import AuditLog
from tests import factories
from tests.bots.conftest import work_off
from tests.servers.model_service import ModelService, Script

pytestmark = pytest.mark.django_db
CALL = '{"name": "send_mail", "arguments": {"to": "x"}}'
TOOL_CALL = {"tool_calls": [{"index": 0, "id": "1", "function": {"name": "send_mail", "arguments": '{"to": "x"}'}}]}


@pytest.fixture
def service(settings):
    settings.OUTBOUND_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    with ModelService() as running:
        yield running
    worker.close_all()


@pytest.fixture
def bot(service):
    model = factories.model(engine="openai", base_url=service.base_url, model="m", api_key=service.api_key)
    return factories.bot(model=model)


@pytest.mark.rule("L2")
def test_a_canary_of_one_conversation_is_in_no_other_prompt_and_no_other_cache(bot, service):
    first = factories.web_question(bot, "my canary is 4711", scope_key="one")
    work_off(first)
    second = factories.web_question(bot, "what is the canary?", scope_key="two")
    work_off(second)

    assert "4711" not in str(service.requests[-1].body)
    nothing = answering.material.NOTHING
    scopes = {answering.request_for(one, bot, [one], nothing).cache_scope for one in (first, second)}
    assert len(scopes) == 2


@pytest.mark.rule("L7")
def test_a_model_is_offered_no_tool_and_what_it_calls_is_not_done(bot, service):
    service.script(Script([TOOL_CALL, "done"]))
    question = factories.web_question(bot, "send a mail")

    work_off(question)

    assert [sorted({"tools", "functions", "tool_choice"} & asked.body.keys()) for asked in service.requests] == [[]]
    assert question.replies.get().text == "done"
    assert Message.objects.count() == 2
    refused = AuditLog.objects.get(action="tool.refused")
    assert (refused.outcome, refused.target_id) == ("refused", str(question.pk))
    assert "send_mail" in str(refused.changes)


@pytest.mark.rule("L7")
@pytest.mark.parametrize("pieces", [[TOOL_CALL], ["<tool_", f"call>{CALL}</tool_call>"], [f"[TOOL_CALLS][{CALL}]"]])
def test_a_call_without_words_is_refused_with_a_polite_one(bot, service, pieces):
    service.script(Script(pieces))
    question = factories.web_question(bot, "send a mail")

    work_off(question)

    question.refresh_from_db()
    reply = question.replies.get()
    assert (question.status, reply.text, reply.finish_reason) == ("delivered", say("no_tools"), "stop")
    assert "tool_calls" not in reply.details
    assert AuditLog.objects.filter(action="tool.refused").count() == 1


@pytest.mark.rule("L7")
def test_no_markup_of_a_call_reaches_a_chat(bot, service):
    service.script(Script(["I will send it. <tool", f"_call>{CALL}</tool_call> Just wait."]))
    question = factories.web_question(bot, "send a mail")

    work_off(question)

    assert question.replies.get().text == "I will send it. Just wait."


@pytest.mark.rule("A12")
@pytest.mark.parametrize(("page", "has_eval"), [("/admin/login/", True), ("/api/docs/", False), ("/livez", False)])
def test_every_page_has_a_policy_without_inline_scripts(page, has_eval, settings):
    settings.WHITENOISE_AUTOREFRESH = True  # else it warns that nothing was collected
    answer = Client().get(page)

    policy = dict(part.strip().partition(" ")[::2] for part in answer["Content-Security-Policy"].split(";"))
    scripts = policy.get("script-src", policy["default-src"])
    assert "unsafe-inline" not in scripts
    assert ("unsafe-eval" in scripts) == has_eval
    assert (answer["X-Content-Type-Options"], answer["X-Frame-Options"]) == ("nosniff", "DENY")
