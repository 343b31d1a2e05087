"""The models and platforms behind the bots. What no enabled bot or endpoint uses can only warn."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TypeVar

import httpx
from django.conf import settings
from django.db import connection
from django.utils.translation import gettext as _

from bots.models import Endpoint, LongConnection
from clawdbot_site.security.encryption import DecryptionError
from clawdbot_site.security.outbound import guarded_client
from inference import health
from inference.models import LanguageModel
from inference.tasks import check_model
from integrations.models import PlatformCredential
from integrations.registry import adapter_for
from monitoring.doctor import Finding, Level, database

AT_ONCE = 8
WORKER_S = 30.0  # how long a worker may take to ask its local model
MOST_SKEW_S = 30.0  # the Date header counts whole seconds, and comes late
Row = TypeVar("Row", LanguageModel, PlatformCredential)


def models() -> Iterator[Finding]:
    """Asks each model something, as *Check now* in the admin does."""
    used = set(health.in_use().values_list("pk", flat=True))
    yield from _side_by_side(_of_model, LanguageModel.objects.order_by("name"), used)


def platforms() -> Iterator[Finding]:
    used = set(Endpoint.objects.live().values_list("credential_id", flat=True))
    yield from _side_by_side(_of_credential, PlatformCredential.objects.order_by("name"), used)


def long_connections() -> Iterator[Finding]:
    rows = (
        Endpoint.objects.live().filter(mode=Endpoint.Mode.STREAM).select_related("long_connection", "bot", "credential")
    )
    for endpoint in rows:
        yield _of_connection(endpoint)


def clocks() -> Iterator[Finding]:
    """Against the database's, and the Date of the platforms in use. Who cannot be reached is another check's matter."""
    yield from database.clock()
    for host, skew_s in platform_skews().items():
        yield database.judged(skew_s, host, MOST_SKEW_S)


def platform_skews() -> dict[str, float]:
    """How far the clocks of the platforms in use are ahead of ours, in seconds, by their address."""
    used = PlatformCredential.objects.filter(pk__in=Endpoint.objects.live().values("credential_id"))
    hosts = sorted({row.base_url or _default_base(row) for row in used})
    with guarded_client(timeout=5) as client:
        return {host: skew_s for host in hosts if (skew_s := _skew_s(client, host)) is not None}


def _default_base(row: PlatformCredential) -> str:
    return str(settings.FEISHU_BASE_URL if row.platform == "feishu" else settings.DINGTALK_API_URL)


def _skew_s(client: httpx.Client, url: str) -> float | None:
    before = time.time()
    try:
        said = client.head(url).headers.get("Date", "")
    except httpx.HTTPError:
        return None
    with suppress(ValueError):
        theirs = parsedate_to_datetime(said)
        return (theirs - datetime.fromtimestamp((before + time.time()) / 2, UTC)).total_seconds() + 0.5
    return None


# -- one row --


def _side_by_side(
    check: Callable[[Row], list[Finding]], rows: Iterable[Row], used: Collection[object]
) -> Iterator[Finding]:
    """All at once, for each may wait for a network; told in the order of the rows."""

    def run(row: Row) -> list[Finding]:
        try:
            return check(row)
        finally:
            connection.close()

    listed = list(rows)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for row, found in zip(listed, pool.map(run, listed), strict=True):
            yield from (_named(row, finding, row.pk in used) for finding in found)


def _named(row: LanguageModel | PlatformCredential, finding: Finding, is_used: bool) -> Finding:
    level: Level = "warning" if finding.level == "failed" and not is_used else finding.level
    unused = "" if is_used or finding.level == "ok" else _(" (nobody uses it)")
    return Finding(level, f"{row}{unused}: {finding.what}", finding.fix)


def _of_model(model: LanguageModel) -> list[Finding]:
    if model.engine == LanguageModel.Engine.TRANSFORMERS:
        return [_local(model)]
    try:
        answer = health.check(model)
    except DecryptionError:
        fix = _("See `manage.py keys status`; bring the key back, or enter the API key again.")
        return [Finding("failed", _("Its API key cannot be decrypted."), fix)]
    if answer.ok:
        return [Finding("ok", _("It answers."))]
    return [Finding("failed", health.summary(answer), _("Check its address, key and name on the model's page."))]


def _local(model: LanguageModel) -> Finding:
    """Loading it here as well might not fit beside the worker: where there are workers, one of them is asked."""
    if settings.EMBEDDED:
        return _folder(model)
    check_model.apply_async((str(model.pk),), queue=model.queue)
    end, asked_at = time.monotonic() + WORKER_S, model.checked_at
    while time.monotonic() < end:
        model.refresh_from_db(fields=["status", "status_detail", "checked_at"])
        if model.checked_at != asked_at:
            break
        time.sleep(0.2)
    if model.checked_at == asked_at:
        what = _("No worker of the queue %(queue)s answered for it within %(seconds)s s.")
        values = {"queue": model.queue, "seconds": round(WORKER_S)}
        return Finding("failed", what % values, _("Start a worker with a GPU for it, and look at its log."))
    if model.status == LanguageModel.Status.OK:
        return Finding("ok", _("It answers."))
    return Finding("failed", model.status_detail, _("Look at the log of its worker."))


def _folder(model: LanguageModel) -> Finding:
    """The process that has it loaded is asked by its own checks: doctor tells what came of the last one."""
    if not any(Path(model.path).glob("*.safetensors")):
        what = _("There are no safetensors in %(path)s.") % {"path": model.path}
        return Finding("failed", what, _("Put the model there, or enter its right folder on the model's page."))
    if not model.is_check_fresh:
        return Finding("ok", _("Its folder is there."))
    if model.status == LanguageModel.Status.FAILING:
        return Finding("failed", model.status_detail, _("Look at the log of the site."))
    return Finding("ok", _("It answered its last check: %(what)s") % {"what": model.status_detail})


def _of_credential(credential: PlatformCredential) -> list[Finding]:
    try:
        said = adapter_for(credential.platform).check(credential.values())
    except DecryptionError:
        fix = _("See `manage.py keys status`; bring the key back, or enter the secrets again.")
        return [Finding("failed", _("A stored secret cannot be decrypted."), fix)]
    wrong = [Finding(one.level, one.what, one.fix or _console()) for one in said if one.level != "ok"]
    return wrong or [Finding("ok", _("The platform accepts it."))]


def _console() -> str:
    return _("See the app in the platform's console.")


def _of_connection(endpoint: Endpoint) -> Finding:
    row: LongConnection | None = getattr(endpoint, "long_connection", None)
    state = row.current_state if row else LongConnection.State.IDLE
    what = f"{endpoint}: {state.label}" + (f" ({row.detail})" if row and row.detail else "")
    if state == LongConnection.State.CONNECTED:
        return Finding("ok", what)
    if state in (LongConnection.State.IDLE, LongConnection.State.REFUSED):
        how = "make run" if settings.EMBEDDED else "systemctl start clawdbot-listen"
        return Finding("failed", what, _("Start what holds it (%s), or see the endpoint's page for the reason.") % how)
    return Finding("warning", what, _("It is tried again by itself; see the endpoint's page if that lasts."))
