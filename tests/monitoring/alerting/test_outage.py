"""While the database is away alerts are told from memory, and written down when it is back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError

from monitoring.alerting import unwritten
from monitoring.alerting.rules import Breach
from monitoring.alerting.running import Watch
from monitoring.models import Alert
from tests.monitoring.alerting.made import NOW, Heard, breach, channel

pytestmark = pytest.mark.django_db(transaction=True)


class Away:
    """Makes the lease fail as a lost PostgreSQL does."""

    def __init__(self, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_away = False
        take = watch.leadership.take

        def taking(now: Any) -> bool:
            if self.is_away:
                raise OperationalError('connection to server at "10.0.0.5" failed, password=geheim')
            return take(now)

        monkeypatch.setattr(watch.leadership, "take", taking)


@pytest.fixture
def watch(tmp_path: Any, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    settings.DATA_DIR = tmp_path
    made = Watch()
    made.clock_s = 1000.0  # type: ignore[attr-defined]
    monkeypatch.setattr(made.outage, "_clock_s", lambda: made.clock_s)  # type: ignore[attr-defined]
    monkeypatch.setattr(made.evaluator, "_clock_s", lambda: made.clock_s)  # type: ignore[attr-defined]
    yield made
    made.leadership.let_file_go()


def looks(watch: Any, *seconds: float) -> None:
    for pause_s in seconds:
        watch.clock_s += pause_s
        watch.look(NOW + timedelta(seconds=watch.clock_s))


def test_a_lost_database_is_told_at_once_and_written_when_it_is_back(
    watch: Watch, heard: Heard, wrong: list[Breach], monkeypatch: pytest.MonkeyPatch
) -> None:
    away = Away(watch, monkeypatch)
    channel()
    looks(watch, 0)

    away.is_away = True
    looks(watch, 6, 6, 6)

    assert heard.titles == ["[critical] Services"]
    assert "geheim" not in heard.messages[0].text
    assert [one["severity"] for one in unwritten.found()] == ["critical"]
    assert Alert.objects.count() == 0

    away.is_away = False
    looks(watch, 6)
    row = Alert.objects.get()
    assert (row.rule, row.severity, row.closed_at is None) == ("database.down", "critical", False)
    assert heard.titles == ["[critical] Services", "Resolved: Services"]
    assert unwritten.found() == []


def test_what_else_breaks_meanwhile_is_told_and_stays_open(
    watch: Watch, heard: Heard, wrong: list[Breach], monkeypatch: pytest.MonkeyPatch
) -> None:
    away = Away(watch, monkeypatch)
    channel()
    looks(watch, 0)
    away.is_away = True
    wrong.append(breach("disk"))
    looks(watch, 6, 15, 15, 15)

    assert heard.titles == ["[critical] Services", "[warning] Machine"]
    away.is_away = False
    looks(watch, 6)
    assert [alert.rule for alert in Alert.objects.open()] == ["test.rule"]
    assert heard.titles[2:] == ["Resolved: Services"]


def test_what_was_open_before_is_not_told_again(
    watch: Watch, heard: Heard, wrong: list[Breach], monkeypatch: pytest.MonkeyPatch
) -> None:
    away = Away(watch, monkeypatch)
    channel()
    wrong.append(breach("disk"))
    looks(watch, 0, 15, 16)
    assert heard.titles == ["[warning] Machine"]
    away.is_away = True
    looks(watch, 6, 6, 40, 40)

    assert heard.titles == ["[warning] Machine", "[critical] Services"]


def test_a_message_that_was_not_taken_is_tried_again_at_the_next_look(
    watch: Watch, heard: Heard, wrong: list[Breach], monkeypatch: pytest.MonkeyPatch
) -> None:
    from monitoring.alerting.senders import SendingFailed

    away = Away(watch, monkeypatch)
    channel()
    looks(watch, 0)
    away.is_away, heard.problem = True, SendingFailed("no network")
    looks(watch, 6, 12)
    heard.problem = None
    looks(watch, 6)

    assert heard.titles == ["[critical] Services"]
