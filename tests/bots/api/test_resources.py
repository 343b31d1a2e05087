"""All resources over REST: to whom they are shown, in which order, and what is said where there is nothing."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from bots.models import Chat, Feedback, Message
from tests import factories

pytestmark = pytest.mark.django_db
READ_SCOPE = {
    "models/": "bots:read",
    "model-keys/": "bots:read",
    "usage/": "messages:read",
    "bots/": "bots:read",
    "endpoints/": "bots:read",
    "credentials/": "bots:write",
    "group-robots/": "bots:write",
    "conversations/": "messages:read",
}


# -- scopes --


@pytest.mark.parametrize(("path", "scope"), READ_SCOPE.items())
def test_a_list_is_shown_only_with_its_scope(client_with, path, scope):
    others = ["bots:read", "bots:write", "messages:read", "messages:write", "chat", "audit:read", "admin"]
    others.remove(scope)

    assert client_with(scope).get(f"/api/v1/{path}").status_code == 200
    refused = client_with(*others).get(f"/api/v1/{path}")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "permission_denied")


@pytest.mark.parametrize("path", ["models/", "bots/", "credentials/", "endpoints/", "group-robots/"])
def test_writing_needs_the_scope_for_it(client_with, path):
    reader = client_with("bots:read", "messages:read", "messages:write", "chat", "audit:read", "admin")

    assert reader.post(f"/api/v1/{path}", {}).status_code == 403
    assert client_with("bots:write").post(f"/api/v1/{path}", {}).status_code == 400


@pytest.mark.parametrize("path", READ_SCOPE)
def test_nobody_is_refused_in_the_error_shape(client, path):
    response = client.get(f"/api/v1/{path}")

    assert response.status_code == 401
    assert set(response.json()["error"]) == {"code", "message", "request_id"}


# -- addresses and lists --


@pytest.mark.parametrize(
    "path", ["bots/%00/", "bots/no-such/", "models/nonsense/", "endpoints/" + "0" * 36 + "/", "x/"]
)
def test_what_is_not_there_is_a_404_in_the_error_shape(rest, path):
    response = rest.get(f"/api/v1/{path}")

    assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found")


def test_broken_json_is_the_callers_error(rest):
    response = rest.post("/api/v1/bots/", b"{broken", content_type="application/json")

    assert (response.status_code, response.json()["error"]["code"]) == (400, "parse_error")


MAKERS = {
    "models/": factories.model,
    "bots/": factories.bot,
    "credentials/": factories.credential,
    "endpoints/": factories.endpoint,
    "conversations/": factories.web_question,
    "chats/": lambda: Chat.objects.create(endpoint=factories.endpoint(), chat_id="oc_1"),
    "feedback/": lambda: given("up"),
}


def given(vote: str, **question: Any) -> Feedback:
    """A vote for an answer."""
    asked = factories.web_question(**question)
    reply = Message.objects.create(conversation=asked.conversation, role="assistant", reply_to=asked, text="Here.")
    return Feedback.objects.create(reply=reply, user_id="ou_1", vote=vote)


@pytest.mark.parametrize("path", MAKERS)
def test_a_list_takes_the_same_queries_for_one_row_and_three(rest, path):
    MAKERS[path]()
    rest.get(f"/api/v1/{path}")  # notes the key's use, once
    with CaptureQueriesContext(connection) as one:
        rest.get(f"/api/v1/{path}")
    for _ in range(2):
        MAKERS[path]()

    with CaptureQueriesContext(connection) as three:
        shown = rest.get(f"/api/v1/{path}").json()["results"]

    assert (len(shown), len(three)) == (3, len(one))


def test_a_list_is_newest_first_and_paged_completely(rest):
    slugs = [factories.bot().slug for _ in range(5)]

    page, seen = rest.get("/api/v1/bots/?page_size=2").json(), []
    while True:
        seen += [row["slug"] for row in page["results"]]
        if not page["next"]:
            break
        page = rest.get(page["next"]).json()

    assert seen == slugs[::-1]


# -- feedback and files of a message --


def test_feedback_is_filtered_and_counted_on_its_answer(rest):
    bad, _good = given("down", asked=factories.bot(slug="ada")), given("up")

    shown = rest.get("/api/v1/feedback/?vote=down&bot=ada").json()["results"]
    answer = rest.get(f"/api/v1/messages/{bad.reply_id}/").json()

    assert [(row["id"], row["vote"], row["question"]) for row in shown] == [
        (str(bad.pk), "down", str(bad.reply.reply_to_id))
    ]
    assert answer["feedback"] == {"up": 0, "down": 1}


def test_feedback_is_read_only(rest):
    path = f"/api/v1/feedback/{given('up').pk}/"

    assert [rest.patch(path, {"vote": "down"}).status_code, rest.delete(path).status_code] == [405, 405]


def test_a_message_names_what_came_with_it(rest):
    question = factories.web_question(details={"attachments": [{"kind": "file", "key": "secret", "name": "a.pdf"}]})

    shown = rest.get(f"/api/v1/messages/{question.pk}/").json()

    assert shown["attachments"] == [{"kind": "file", "name": "a.pdf"}]
