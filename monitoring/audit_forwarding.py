"""Audit entries to central receivers (AUDIT_FORWARD_TO), in the order of the chain, each with its seal.

A cursor for each receiver stands at the last seal that it took. A receiver that was down gets all that it missed; one
that did not answer may get entries twice, which their ``sequence`` shows. Nothing waits for it.
"""

from __future__ import annotations

import logging
import time
from datetime import datetime
from itertools import islice
from typing import Final

from django.conf import settings
from django.utils import timezone

from monitoring import links, receivers, verifier
from monitoring.alerts import close_alert, open_alert
from monitoring.links import Link
from monitoring.models import AuditSink
from monitoring.receivers import Receiver, Record
from monitoring.redaction import redact
from monitoring.sinks import PATIENCE
from monitoring.text import json_text, printable

logger = logging.getLogger(__name__)

AT_ONCE: Final = 500
BUDGET_S: Final = 5.0  # of one run and receiver; the next run goes on
PREFIX: Final = "forward "  # keeps these cursors apart from those of the checkpoints' sinks
SEVERITIES: Final = {"success": 5, "refused": 4, "failure": 4}


def forward_all() -> None:
    """For the scheduler; run twice or never, nothing is lost."""
    for receiver in configured():
        state, _is_new = AuditSink.objects.get_or_create(name=cursor_name(receiver))
        try:
            _forward(receiver, state)
        except Exception as error:  # noqa: BLE001  (the outermost loop: whatever is wrong with one, the others get theirs)
            _note_failure(state, error)


def configured() -> list[Receiver]:
    return [receivers.parse(text) for text in settings.AUDIT_FORWARD_TO]


def cursor_name(receiver: Receiver) -> str:
    return f"{PREFIX}{receiver.name}"[:200]


def _forward(receiver: Receiver, state: AuditSink) -> None:
    end = time.monotonic() + BUDGET_S
    while found := list(islice(links.chain(state.copied_through), AT_ONCE)):
        receiver.send([_record(link) for link in found])
        state.copied_through, state.copied_at = found[-1][0], timezone.now()
        state.failing_since, state.error = None, ""
        state.save()
        close_alert("audit.forwarding", subject=state.name)
        if time.monotonic() > end:
            return


def _record(link: Link) -> Record:
    sequence, entry_id, state, hash_, _mark, entry = link
    values = dict(zip(verifier.SEALED, entry, strict=True)) if entry else {"id": entry_id}
    at = datetime.fromisoformat(values["created_at"]) if entry else timezone.now()
    text = json_text({**values, "seal": {"sequence": sequence, "state": state, "hash": hash_}})
    return Record(at, SEVERITIES.get(str(values.get("outcome")), 4), text, "audit")


def _note_failure(state: AuditSink, error: Exception) -> None:
    now = timezone.now()
    state.failing_since = state.failing_since or now
    state.error = printable(redact(f"{type(error).__name__}: {error}"), 300)
    state.save()
    logger.warning("a receiver takes no audit entries", extra={"receiver": state.name, "error": state.error})
    if now - state.failing_since >= PATIENCE:
        open_alert("audit.forwarding", f"{state.name} takes no audit entries", subject=state.name)
