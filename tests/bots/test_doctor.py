"""What doctor says of workers, models and platforms. With real workers: e2e/test_operations.py."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from bots.doctor import processes, services
from bots.models import Endpoint, LongConnection
from inference.worker import close_all
from tests import factories
from tests.integrations.feishu.fake_feishu import FakeFeishu
from tests.integrations.feishu.test_check import ALL, INFO, SCOPES, bot, scopes
from tests.servers.model_service import ModelService, Script

# The checks ask several things at once, in threads with connections of their own.
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def engines_end() -> Iterator[None]:
    yield
    close_all()


def told(check: Any) -> list[tuple[str, str]]:
    return [(one.level, one.what) for one in check()]


def remote(service: ModelService, **values: Any) -> Any:
    given = {"engine": "openai", "base_url": service.base_url, "model": "m", "api_key": service.api_key}
    return factories.model(**{**given, **values})


def test_models_in_use_must_answer_and_others_only_warn(settings: Any) -> None:
    settings.OUTBOUND_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    with ModelService() as service:
        factories.bot(model=remote(service, name="used"))
        remote(service, name="wrong-key", api_key="another")
        assert told(services.models) == [
            ("ok", "used: It answers."),
            ("warning", "wrong-key (nobody uses it): HTTP 401: the service refused the API key"),
        ]

        service.script(Script(status=404, body="no such model"))
        levels = [level for level, _ in told(services.models)]

    assert levels == ["failed", "warning"]


def test_a_bot_that_is_disabled_uses_nothing(tmp_path: Path) -> None:
    model = factories.model(name="local", engine="transformers", path=str(tmp_path))
    bot = factories.bot(model=model)
    assert told(services.models) == [("failed", f"local: There are no safetensors in {tmp_path}.")]

    bot.is_enabled = False
    bot.save()
    assert [level for level, _ in told(services.models)] == ["warning"]


def test_a_local_model_is_told_of_by_its_last_check(tmp_path: Path) -> None:
    """Embedded: doctor is a process of its own, and would load the model a second time."""
    (tmp_path / "model.safetensors").touch()
    model = factories.model(name="local", engine="transformers", path=str(tmp_path))
    factories.bot(fallback_model=model)
    assert ("ok", "local: Its folder is there.") in told(services.models)

    model.status, model.status_detail, model.checked_at = "failing", "out of memory", timezone.now()
    model.save()
    assert ("failed", "local: out of memory") in told(services.models)

    model.status, model.status_detail = "ok", "12 ms: Hello"
    model.save()
    assert ("ok", "local: It answered its last check: 12 ms: Hello") in told(services.models)


def test_credentials_are_asked_of_their_platform(settings: Any) -> None:
    settings.OUTBOUND_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    with FakeFeishu() as feishu:
        for pattern, answer in ((INFO, bot()), (SCOPES, scopes(*ALL))):
            feishu.trouble(pattern, answer)
        app = {"app_id": feishu.app_id, "app_secret": feishu.app_secret, "base_url": feishu.url}
        credential = factories.credential(**app)
        endpoint = factories.endpoint(credential=credential)
        assert told(services.platforms) == [("ok", f"{credential}: The platform accepts it.")]

        credential.app_secret = "wrong"
        credential.save()
        assert [level for level, _ in told(services.platforms)] == ["failed"]

        endpoint.is_enabled = False
        endpoint.save()
        ((level, what),) = told(services.platforms)

    assert (level, what.startswith(f"{credential} (nobody uses it): ")) == ("warning", True)


def test_long_connections_must_be_held() -> None:
    endpoint = factories.endpoint(mode=Endpoint.Mode.STREAM)
    assert told(services.long_connections) == [("failed", f"{endpoint}: nobody holds it")]

    held = {"holder": "me", "held_until": timezone.now() + timedelta(seconds=60), "state": "connected"}
    LongConnection.objects.create(endpoint=endpoint, **held)
    assert told(services.long_connections) == [("ok", f"{endpoint}: connected")]

    LongConnection.objects.update(state="waiting")
    assert [level for level, _ in told(services.long_connections)] == ["warning"]


def test_scheduler_must_have_worked_of_late() -> None:
    PeriodicTask.objects.filter(name="sweep").delete()
    assert [level for level, _ in told(processes.scheduler)] == ["failed"]

    every, _ = IntervalSchedule.objects.get_or_create(every=2, period="seconds")
    task = PeriodicTask.objects.create(name="sweep", task="bots.tasks.sweep", interval=every)
    for age, level in ((timedelta(minutes=1), "ok"), (timedelta(minutes=11), "failed")):
        PeriodicTask.objects.filter(pk=task.pk).update(last_run_at=None, date_changed=timezone.now() - age)
        assert [one for one, _ in told(processes.scheduler)] == [level]

    PeriodicTask.objects.filter(pk=task.pk).update(last_run_at=timezone.now())
    assert [one for one, _ in told(processes.scheduler)] == ["ok"]


def test_messages_that_wait_or_failed_are_told() -> None:
    assert told(processes.queues) == [("ok", "No message waits for long.")]

    factories.web_question(received_at=timezone.now() - timedelta(seconds=90))
    factories.web_question(status="failed")
    assert [level for level, _ in told(processes.queues)] == ["warning", "warning"]


def test_workers_cannot_be_asked_without_redis(settings: Any) -> None:
    settings.EMBEDDED, settings.PORT = True, 1
    assert [level for level, _ in told(processes.workers)] == ["failed"]


def test_queues_in_use_are_those_of_enabled_bots() -> None:
    factories.bot(model=factories.model(queue="vision"))
    factories.bot(model=factories.model(queue="idle"), is_enabled=False)

    assert processes.queues_in_use() == ["default", "delivery", "vision"]


class Late(BaseHTTPRequestHandler):
    """A platform whose clock is two minutes behind."""

    def do_HEAD(self) -> None:
        self.send_response_only(404)
        self.send_header("Date", self.date_time_string(int(timezone.now().timestamp()) - 120))
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def test_the_platforms_clock_is_compared_with_ours(settings: Any) -> None:
    settings.OUTBOUND_ALLOWED_NETWORKS = ["127.0.0.0/8"]
    with ThreadingHTTPServer(("127.0.0.1", 0), Late) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        factories.endpoint(credential=factories.credential(base_url=url))
        found = told(services.clocks)
        server.shutdown()
        thread.join()

    assert found[-1][0] == "failed"
    assert url in found[-1][1]
