"""The network rules of this process, in memory, following the database within about a second (rule N5).

While the database cannot be reached the last good ones stay. Counts and audit entries are written by the same
background thread that fetches the rules, so a refusal costs its visitor a look into a dictionary and us no query.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from django.db import DatabaseError, close_old_connections, connection, transaction
from django.db.models import Count, F, Sum
from django.utils import timezone

from clawdbot_site.security import suspects
from clawdbot_site.security.areas import AREA_NAMES
from clawdbot_site.security.ip_rules import Decision, Rule, RuleSet, compile
from clawdbot_site.security.models import IPRule
from monitoring import audit
from monitoring.context import ANONYMOUS, bind, current

logger = logging.getLogger(__name__)

POLL_S: Final = 1.0
FLUSH_S: Final = 5.0
BATCH_S: Final = 0.05  # a flood of refusals wakes the thread, but not for each
RELOAD_S: Final = 60.0  # even if nothing seems changed
MAX_WAITING_REFUSALS: Final = 10_000


@dataclass(frozen=True, slots=True)
class _Refusal:
    action: str
    label: str
    reason: str
    address: str
    request_id: str


Revision = tuple[int, int]


def read_revision() -> Revision:
    """Changes whenever any rule does: each save draws a random number for its row (see IPRule.revision)."""
    found = IPRule.objects.aggregate(rows=Count("pk"), drawn=Sum("revision"))
    return found["rows"], found["drawn"] or 0


def read_rules() -> list[Rule]:
    return IPRule.objects.all().compiled_form()


class RuleBook:
    """The rules of this process, followed by a background thread that starts at the first visit.

    ``read`` and ``revision`` ask the database; tests give others.
    """

    def __init__(
        self,
        read: Callable[[], Iterable[Rule]] = read_rules,
        revision: Callable[[], Revision] = read_revision,
        poll_s: float = POLL_S,
    ) -> None:
        self._read, self._revision, self._poll_s = read, revision, poll_s
        self._rules: RuleSet | None = None
        self._known: Revision | None = None
        self._read_at = self._looked_at = self._flushed_at = 0.0
        self._is_asked = False
        self._hits: Counter[str] = Counter()
        self._refusals: deque[_Refusal] = deque(maxlen=MAX_WAITING_REFUSALS)
        self._lock, self._wake, self._stopped = threading.Lock(), threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def is_loaded(self) -> bool:
        return self._rules is not None

    def decide(self, address: str, area: str, endpoint_id: UUID | None = None) -> Decision:
        """The verdict on a visit, from memory; counts the rule's hit. ``load`` must have succeeded once."""
        if self._rules is None:
            raise LookupError("the rules were never read")
        decision = self._rules.decide(address, area, endpoint_id)
        self._count(decision.rule_id)
        if self._rules.trial and decision.allowed:
            self._try(self._rules.trial.decide(address, area, endpoint_id), decision, address, area)
        return decision

    def _count(self, rule_id: str | None) -> None:
        if rule_id:
            with self._lock:
                self._hits[rule_id] += 1

    def _try(self, trial: Decision, decision: Decision, address: str, area: str) -> None:
        """Count and note what the rules on trial would have done."""
        if trial.rule_id != decision.rule_id:
            self._count(trial.rule_id)
        if not trial.allowed:
            self.note("network.would_refuse", f"{area} {trial.rule_id or ''}".strip(), trial.reason, address)

    def knows_endpoint(self, endpoint_id: UUID) -> bool:
        """Whether any rule names this endpoint; if none does, the gate in front has decided already."""
        return self._rules is not None and self._rules.knows(endpoint_id)

    def lets_in_by_rule(self, address: str) -> bool:
        """Whether a rule allows this address by name somewhere: such a one is never blocked automatically."""
        decisions = [self._rules.decide(address, area) for area in ("site", *AREA_NAMES)] if self._rules else []
        return any(decision.reason == "allowed" for decision in decisions)

    def load(self) -> None:
        """Read the rules if they changed. Raises DatabaseError."""
        self._is_asked, self._looked_at = False, time.monotonic()
        revision = self._revision()  # before the rules: a change in between is seen at the next look
        if revision != self._known or time.monotonic() - self._read_at > RELOAD_S:
            self._rules = compile(self._read())
            self._known, self._read_at = revision, time.monotonic()

    def changed(self) -> None:
        """This process changed a rule: look now, here or in the background."""
        if self.is_running:
            self._is_asked = True
            self._wake.set()
        elif self.is_loaded:
            self.load()

    def note(self, action: str, label: str, reason: str, address: str) -> None:
        """Have a refusal written to the audit log (with flood control) by the background thread."""
        self._refusals.append(_Refusal(action, label, reason, address, current().request_id))
        self._wake.set()

    def flush(self) -> None:
        """Write what waits in memory: audit entries, then hit counts."""
        while self._refusals:
            _audit(self._refusals.popleft())
        audit.write_overdue()
        suspects.watch.flush(self.lets_in_by_rule)
        if time.monotonic() - self._flushed_at >= FLUSH_S:
            self.flush_hits()

    def flush_hits(self) -> None:
        self._flushed_at = time.monotonic()
        with self._lock:
            hits, self._hits = self._hits, Counter()
        try:
            for rule_id, count in sorted(hits.items()):
                IPRule.objects.filter(pk=rule_id).update(hits=F("hits") + count, last_hit_at=timezone.now())
                hits[rule_id] = 0
        finally:
            with self._lock:
                self._hits.update({rule_id: count for rule_id, count in hits.items() if count})

    # -- the background thread --

    @property
    def is_running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        with self._lock:
            if not self.is_running and not self._stopped.is_set():
                self._thread = threading.Thread(target=self._follow, name="network-rules", daemon=True)
                self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """End the thread after a last flush. A later ``start`` does nothing."""
        self._stopped.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _follow(self) -> None:
        while not self._stopped.is_set():
            self._wake.wait(self._poll_s)
            self._wake.clear()
            self._turn()
            self._stopped.wait(BATCH_S)
        self._flushed_at = 0.0
        self._turn()
        connection.close()

    def _turn(self) -> None:
        try:
            close_old_connections()
            if self._is_asked or time.monotonic() - self._looked_at >= self._poll_s:
                self.load()
            self.flush()
        except DatabaseError:
            logger.warning("network rules not read, the last good ones stay", exc_info=True)
            connection.close()
            self._stopped.wait(self._poll_s)
        except Exception:  # the outermost loop: the last good rules stay in force, and are followed again
            logger.exception("network rules not followed")
            self._stopped.wait(self._poll_s)


def _audit(refusal: _Refusal) -> None:
    with bind(request_id=refusal.request_id, address=refusal.address, actor=ANONYMOUS):
        audit.record_refusal(refusal.action, target_label=refusal.label, reason=refusal.reason)


rules = RuleBook()


def rules_changed(**kwargs: object) -> None:
    """Receiver of IPRule's signals, after the change is committed."""
    transaction.on_commit(rules.changed, robust=True)
