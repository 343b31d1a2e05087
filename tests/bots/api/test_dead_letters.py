"""Dead letters by REST: listed with filters, tried again and discarded, one and many."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from bots.models import Bot, Endpoint, Message
from monitoring.models import AuditLog
from tests import factories

pytestmark = pytest.mark.django_db
LIST = "/api/v1/dead-letters/"
UNKNOWN = "01a204a3-c57e-7000-8000-000000000000"


@pytest.fixture(autouse=True)
def rings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bots.doorbell.ring", lambda *args, **more: None)


def dead(text: str = "Lost", status: str = "failed", **values: Any) -> Message:
    return factories.web_question(values.pop("bot", None), text, status=status, error="no power", **values)


def listed(rest: Any, query: str = "") -> list[str]:
    response = rest.get(f"{LIST}{query}")
    assert response.status_code == 200, response.content
    return [row["text"] for row in response.json()["results"]]


def actions() -> list[str]:
    return list(AuditLog.objects.filter(action__startswith="message.").order_by("id").values_list("action", flat=True))


# -- the list --


def test_dead_letters_are_listed_with_their_reason(rest):
    dead()
    factories.web_question(status="delivered")
    dead("Gone", discarded_at=timezone.now())

    (row,) = rest.get(LIST).json()["results"]

    assert (row["text"], row["status"], row["error"], row["discarded_at"]) == ("Lost", "failed", "no power", None)


@pytest.mark.parametrize(
    ("query", "texts"),
    [
        ("?bot=helper", ["Mine"]),
        ("?platform=dingtalk", ["Open"]),
        ("?status=unconfirmed", ["Open"]),
        ("?status=failed", ["Mine"]),
        ("?discarded=false", ["Open", "Mine"]),
        ("?discarded=true", ["Gone"]),
        ("?discarded=true&status=unconfirmed", []),
    ],
)
def test_a_filter_narrows_the_list(rest, bot, query, texts):
    dead("Mine", bot=bot)
    dead("Open", "unconfirmed")
    Message.objects.filter(text="Open").update(platform="dingtalk")
    dead("Gone", discarded_at=timezone.now())

    assert listed(rest, query) == texts


@pytest.mark.parametrize("query", ["?status=delivered", "?platform=irc"])
def test_a_wrong_filter_is_an_error_not_an_empty_list(rest, query):
    assert rest.get(f"{LIST}{query}").status_code == 400


def test_pages_are_followed_by_a_cursor(rest):
    for number in range(3):
        dead(str(number))
    first = rest.get(f"{LIST}?page_size=2").json()

    second = rest.get(first["next"]).json()

    assert [[row["text"] for row in page["results"]] for page in (first, second)] == [["2", "1"], ["0"]]
    assert second["next"] is None


def test_a_list_takes_the_same_queries_for_one_and_three(rest):
    dead()
    rest.get(LIST)
    with CaptureQueriesContext(connection) as one:
        rest.get(LIST)
    dead()
    dead()

    with CaptureQueriesContext(connection) as three:
        assert len(listed(rest)) == 3

    assert len(one) == len(three)


# -- many at once --


def ids(*rows: Message) -> dict[str, list[str]]:
    return {"ids": [str(row.pk) for row in rows]}


def test_many_are_tried_again_each_by_itself(rest):
    fine, settled = dead(), dead(status="delivered")

    response = rest.post(f"{LIST}retry/", {"ids": [str(settled.pk), UNKNOWN, str(fine.pk)]})

    outcome = response.json()
    assert (response.status_code, outcome["done"]) == (200, [str(fine.pk)])
    assert [row["id"] for row in outcome["refused"]] == [str(settled.pk), UNKNOWN]
    assert [row["reason"] != "" for row in outcome["refused"]] == [True, True]
    fine.refresh_from_db()
    assert (fine.status, actions()) == ("received", ["message.retried"])


def test_many_are_discarded(rest):
    rows = dead("One"), dead("Two", "unconfirmed")
    dead("Three")

    response = rest.post(f"{LIST}discard/", ids(*rows))

    assert response.json() == {"done": [str(row.pk) for row in rows], "refused": []}
    assert listed(rest) == ["Three"]
    assert actions() == ["message.discarded"] * 2


@pytest.mark.parametrize("body", [{}, {"ids": []}, {"ids": ["x"]}, {"ids": [UNKNOWN] * 201}])
@pytest.mark.parametrize("name", ["retry", "discard"])
def test_bad_ids_are_refused(rest, name, body):
    assert rest.post(f"{LIST}{name}/", body).status_code == 400


@pytest.mark.parametrize("name", ["retry", "discard"])
def test_changing_needs_its_scope(client_with, name):
    row = dead()

    assert client_with("messages:read", "chat").post(f"{LIST}{name}/", ids(row)).status_code == 403
    assert client_with("messages:write").post(f"{LIST}{name}/", ids(row)).status_code == 200


def test_reading_needs_its_scope(client_with):
    assert client_with("chat", "bots:read").get(LIST).status_code == 403


# -- one --


def test_one_is_discarded_put_back_and_tried_again(rest):
    row = dead()
    address = f"/api/v1/messages/{row.pk}/"

    discarded = rest.post(f"{address}discard/")
    assert (discarded.status_code, discarded.json()["discarded_at"] is None) == (200, False)
    assert rest.post(f"{address}discard/").status_code == 409

    restored = rest.post(f"{address}restore/")
    assert (restored.status_code, restored.json()["discarded_at"]) == (200, None)
    assert rest.post(f"{address}restore/").status_code == 409

    rest.post(f"{address}discard/")
    assert rest.post(f"{address}retry/").status_code == 202
    assert actions() == [f"message.{name}" for name in ("discarded", "restored", "discarded", "restored", "retried")]


@pytest.mark.parametrize("name", ["discard", "restore"])
def test_one_is_only_discarded_by_who_may_write(client_with, name):
    row = dead()

    assert client_with("messages:read").post(f"/api/v1/messages/{row.pk}/{name}/").status_code == 403


# -- the settings of the message path --


def test_common_answers_and_the_longest_queue_are_read_and_set(rest, bot):
    assert rest.get("/api/v1/bots/helper/").json()["max_waiting"] == 1000

    response = rest.patch("/api/v1/bots/helper/", {"answers_together": True, "max_waiting": 0})

    assert (response.json()["answers_together"], response.json()["max_waiting"]) == (True, 0)
    assert Bot.objects.values_list("answers_together", "max_waiting").get() == (True, 0)


def test_policy_and_limit_of_an_endpoint_are_read_and_set(rest):
    address = f"/api/v1/endpoints/{factories.endpoint().pk}/"
    given = {"unconfirmed_policy": "send_again", "rate_limit_per_minute": 60}

    assert rest.patch(address, {"unconfirmed_policy": "perhaps"}).status_code == 400
    assert rest.patch(address, given).json().items() >= given.items()
    assert Endpoint.objects.values_list(*given).get() == ("send_again", 60)
