"""The ages of keys and secrets (rule E8): replaced at 90 days, a warning from 75 on, an alert from 90 on.

The apps above register the secrets that they hold when they start. Keys replace themselves, by the scheduler; secrets a
person must enter anew, by a day that may be set. ``alerting.py`` has a rule for each of the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final, Literal

from django.utils import timezone
from django.utils.translation import gettext as _

from clawdbot_site.security import key_ring, signing_keys
from clawdbot_site.security.models.keys import DataKey
from clawdbot_site.security.models.tokens import SigningKey
from monitoring import metrics, signing

ROTATE_AFTER: Final = key_ring.ROTATE_AFTER
WARN_AFTER: Final = timedelta(days=75)
WARN_BEFORE: Final = ROTATE_AFTER - WARN_AFTER

Kind = Literal["data", "token_signing", "audit_signing", "platform_credential", "model_key"]
State = Literal["fresh", "due", "overdue"]


@dataclass(frozen=True, slots=True)
class Dated:
    """One key or secret. ``name`` is shown to people, ``subject`` tells it from all others; no secret in them."""

    kind: Kind
    subject: str
    name: str
    made_at: datetime
    due_on: date
    replaces_itself: bool = False

    @classmethod
    def by_itself(cls, kind: Kind, subject: str, name: str, made_at: datetime) -> Dated:
        return cls(kind, subject, name, made_at, due_date(made_at), replaces_itself=True)

    @property
    def days_left(self) -> int:
        return (self.due_on - timezone.localdate()).days

    @property
    def age_days(self) -> int:
        return (timezone.now() - self.made_at).days

    def state(self) -> State:
        if self.days_left <= 0:
            return "overdue"
        return "due" if self.days_left <= WARN_BEFORE.days else "fresh"

    def sentence(self) -> str:
        values = {"name": self.name, "days": self.age_days, "due": f"{self.due_on:%Y-%m-%d}"}
        if self.state() == "overdue":
            return _("%(name)s should have been replaced by %(due)s; it is %(days)s days old.") % values
        return _("%(name)s is %(days)s days old and should be replaced by %(due)s.") % values

    def advice(self) -> str:
        if not self.replaces_itself:
            return _("Enter a new one beside it: see Changing a secret in docs/operations.md.")
        if self.state() == "overdue":
            return _("Does the scheduler run? See `manage.py keys status`, then `keys rotate`.")
        return _("Nothing to do: the scheduler replaces it.")


Source = Callable[[], Iterable[Dated]]
_sources: list[Source] = []


def register(source: Source) -> None:
    """Registering it twice counts once."""
    if source not in _sources:
        _sources.append(source)


def register_gauges() -> None:
    metrics.register_gauge("clawdbot_key_age_days", ages)
    metrics.register_gauge("clawdbot_secret_days_left", days_left)


def due_date(made_at: datetime) -> date:
    return timezone.localdate(made_at + ROTATE_AFTER)


def all_dated() -> list[Dated]:
    return [*own_keys(), *entered_secrets()]


def entered_secrets() -> Iterator[Dated]:
    """What the apps above hold, and a person must enter anew."""
    for source in _sources:
        yield from source()


def own_keys() -> Iterator[Dated]:
    """Our own, which the scheduler replaces."""
    for key in DataKey.objects.filter(purpose=DataKey.Purpose.ENCRYPT, state=DataKey.State.PRIMARY):
        yield Dated.by_itself("data", "data", _("The data key %(key)s") % {"key": key}, key.created_at)
    for token_key in SigningKey.objects.filter(state=SigningKey.State.CURRENT):
        name = _("The key that signs access tokens")
        yield Dated.by_itself("token_signing", "token_signing", name, signing_keys.signs_since(token_key))
    if made_at := signing.made_at():
        yield Dated.by_itself("audit_signing", "audit_signing", _("The key that signs the audit log"), made_at)


def ages() -> dict[str, float]:
    """For clawdbot_key_age_days: the oldest of each kind."""
    oldest: dict[str, float] = {}
    for one in all_dated():
        oldest[one.kind] = max(float(one.age_days), oldest.get(one.kind, 0.0))
    return oldest


def days_left() -> dict[str, float]:
    """For clawdbot_secret_days_left: until the first secret of each kind is to be replaced; below 0: since then."""
    soonest: dict[str, float] = {}
    for one in entered_secrets():
        soonest[one.kind] = min(float(one.days_left), soonest.get(one.kind, float("inf")))
    return soonest
