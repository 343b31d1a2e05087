"""Who may talk to a bot in chats, and what those hear who may not."""

from __future__ import annotations

from typing import Any

import pytest

from bots import answering
from bots.models import Message
from integrations.errors import PlatformError
from monitoring.models import AuditLog
from tests import factories
from tests.bots.conftest import work_off
from tests.servers.model_service import ModelService

pytestmark = pytest.mark.django_db(transaction=True)
REFUSAL = "Sorry, I may not talk to you here. Please ask your administrator."
GROUP = factories.ReplyTarget("cidGroup==", "group", sender_id="staff0001")


def heard(dingtalk_app: Any) -> list[str]:
    return [text for _way, text in dingtalk_app.seen]


def listed(**allowed: Any) -> dict[str, Any]:
    return {"access": "listed", **allowed}


@pytest.mark.parametrize(
    ("allowed", "is_let_in"),
    [
        ({}, False),
        ({"allowed_users": ["staff0001"]}, True),
        ({"allowed_users": ["staff00011"]}, False),
        ({"allowed_departments": ["42"]}, True),
        ({"allowed_departments": ["43"]}, False),
        ({"allowed_chats": ["cid1"]}, False),  # a direct chat is no group
    ],
    ids=["nobody", "person", "another", "department", "other department", "chat"],
)
def test_only_who_is_listed_is_answered(on_dingtalk, says, dingtalk_app, platform, allowed, is_let_in):
    platform.departments["staff0001"] = {"1", "42"}

    work_off(says(on_dingtalk(listed(**allowed))))

    assert heard(dingtalk_app) == ["echo: Hello" if is_let_in else REFUSAL]


def test_everybody_in_a_listed_group_is_answered_there(on_dingtalk, says, dingtalk_app):
    endpoint = on_dingtalk(listed(allowed_chats=["cidGroup=="]))

    work_off(says(endpoint, target=GROUP))
    work_off(says(endpoint))

    assert heard(dingtalk_app) == ["echo: Hello", REFUSAL]


def test_who_is_refused_costs_no_model_and_leaves_one_entry(on_dingtalk, says, dingtalk_app):
    with ModelService() as service:
        model = factories.model(engine="openai", base_url=service.base_url, model="m", api_key=service.api_key)
        endpoint = on_dingtalk(listed(model=model))
        for _ in range(3):
            work_off(says(endpoint))
        asked = len(service.requests)

    entries = AuditLog.objects.filter(action="bot.refused", outcome="refused")
    assert (heard(dingtalk_app), asked) == ([REFUSAL] * 3, 0)
    assert [(entry.target_id, entry.reason) for entry in entries] == [
        (str(endpoint.bot_id), "the person is not listed")
    ]


def test_commands_are_for_those_who_may_talk(on_dingtalk, says, dingtalk_app):
    work_off(says(on_dingtalk(listed()), "/status"))

    assert heard(dingtalk_app) == [REFUSAL]


def test_what_a_refused_person_said_is_not_remembered(on_dingtalk, says):
    endpoint = on_dingtalk(listed(context_scope="chat", allowed_users=["staff0001"]))
    for person, text in (("stranger", "Remember 41"), ("staff0001", "Remember 42")):
        place = factories.ReplyTarget("cidGroup==", "group", sender_id=person)
        work_off(says(endpoint, text, sender_id=person, target=place))

    question = says(endpoint, "What?", target=GROUP)

    said = [turn.text for turn in answering.history(question, endpoint.bot)]
    assert said == ["Remember 42", "echo: Remember 42"]


def test_departments_are_asked_once_for_a_while(on_dingtalk, says, platform):
    platform.departments["staff0001"] = {"42"}
    endpoint = on_dingtalk(listed(allowed_departments=["42"]))

    work_off(says(endpoint))
    work_off(says(endpoint))

    assert platform.asked == ["staff0001"]


def test_where_the_platform_does_not_tell_departments_nobody_is_let_in(on_dingtalk, says, dingtalk_app, platform):
    platform.trouble = PlatformError("no permission", permanent=True)

    work_off(says(on_dingtalk(listed(allowed_departments=["42"]))))

    assert heard(dingtalk_app) == [REFUSAL]


def test_while_the_platform_is_down_the_question_waits(on_dingtalk, says, dingtalk_app, platform):
    platform.departments["staff0001"] = {"42"}
    platform.trouble = PlatformError("down for a moment")
    question = says(on_dingtalk(listed(allowed_departments=["42"])))
    work_off(question)
    waited = question.status

    platform.trouble = None
    Message.objects.update(next_attempt_at=None)
    work_off(question)

    assert (waited, heard(dingtalk_app)) == ("answering", ["echo: Hello"])


def test_the_api_is_another_door(db):
    question = factories.web_question(factories.bot(access="listed"))

    work_off(question)

    assert question.replies.get().text == "echo: Hello"
