"""The ring of keys that sign access tokens: made, read, rotated, published. What they sign is in ``jwt.py``.

Keys come from our own table only. One signs; the next one is published before it does, and the previous one is
believed until the last token that it signed has ended.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.apps import apps as installed_apps
from django.db import DatabaseError, IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone
from joserfc.jwk import ECKey

from clawdbot_site.security.models import SigningKey
from monitoring import audit

logger = logging.getLogger(__name__)

ALGORITHM: Final = "ES256"
ACCESS_LIFETIME_S: Final = 300  # of what they sign
LEEWAY_S: Final = 5
RING_LIFETIME_S: Final = 60.0
UNKNOWN_KID_EVERY_S: Final = 5.0
# How long a key is believed after it stopped signing: a process may sign with it until it reads the ring again.
PREVIOUS_LIFETIME: Final = timedelta(seconds=2 * RING_LIFETIME_S + ACCESS_LIFETIME_S + LEEWAY_S)

# So long a new key must have been published before it signs: by then every process has read it.
PUBLISHED_FOR: Final = timedelta(seconds=2 * RING_LIFETIME_S)


class TooSoon(Exception):
    """The next signing key is not known to every process yet; in a minute or two it is."""


@dataclass(frozen=True, slots=True)
class _Ring:
    signing: tuple[str, ECKey]
    verifying: Mapping[str, tuple[ECKey, float | None]]
    read_at: float


class Ring:
    """The signing keys in this process's memory. Read again each minute, and at an unknown key id, but not for each."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ring: _Ring | None = None
        self._unknown_at = -UNKNOWN_KID_EVERY_S

    def signing_key(self) -> tuple[str, ECKey]:
        return self._fresh().signing

    def verifying_key(self, kid: str, now: float) -> ECKey | None:
        """None: it is not ours, or not believed any more."""
        found = self._fresh().verifying.get(kid) or self._after_reload(kid)
        is_over = found is not None and found[1] is not None and found[1] < now
        return None if found is None or is_over else found[0]

    def forget(self) -> None:
        """Read the keys again at the next use."""
        self._ring, self._unknown_at = None, -UNKNOWN_KID_EVERY_S

    def _fresh(self) -> _Ring:
        ring = self._ring
        if ring and time.monotonic() - ring.read_at < RING_LIFETIME_S:
            return ring
        with self._lock:
            return self._read_or_keep()

    def _after_reload(self, kid: str) -> tuple[ECKey, float | None] | None:
        """Another process may just have rotated. Limited, so that made-up key ids do not become queries."""
        with self._lock:
            if time.monotonic() - self._unknown_at < UNKNOWN_KID_EVERY_S:
                return None
            self._unknown_at = time.monotonic()
            self._ring = read_ring()
            return self._ring.verifying.get(kid)

    def _read_or_keep(self) -> _Ring:
        try:
            self._ring = read_ring()
        except DatabaseError:
            if self._ring is None:
                raise
            logger.warning("signing keys not read again, the database is unreachable")
        return self._ring


ring = Ring()


def read_ring() -> _Ring:
    rows = list(SigningKey.objects.exclude(state=SigningKey.State.RETIRED))
    if not any(row.state == SigningKey.State.CURRENT for row in rows):
        _make_first_keys()
        rows = list(SigningKey.objects.exclude(state=SigningKey.State.RETIRED))
    current = next(row for row in rows if row.state == SigningKey.State.CURRENT)
    return _Ring(
        signing=(current.kid, ECKey.import_key(current.private_pem)),
        verifying={row.kid: (ECKey.import_key(row.public_jwk), _end(row)) for row in rows},
        read_at=time.monotonic(),
    )


def _end(row: SigningKey) -> float | None:
    return row.not_after.timestamp() if row.not_after else None


def _make_first_keys() -> None:
    try:
        with transaction.atomic():
            _make_key(SigningKey.State.CURRENT, timezone.now())
            _make_key(SigningKey.State.NEXT)
    except IntegrityError:
        logger.info("another process made the first signing keys")


def after_migrate(apps: Any = installed_apps, **kwargs: Any) -> None:
    """Receiver of post_migrate: the keys are there before the first request, which might be rolled back."""
    try:
        apps.get_model("security", "SigningKey")
    except LookupError:  # migrated back to before there were keys
        return
    ring.forget()
    ring.signing_key()


def _make_key(state: SigningKey.State, signs_since: datetime | None = None) -> SigningKey:
    key = ECKey.generate_key("P-256", private=True)
    kid = key.thumbprint()
    public = {**key.as_dict(private=False), "kid": kid, "alg": ALGORITHM, "use": "sig"}
    pem = key.as_pem(private=True).decode()
    return SigningKey.objects.create(kid=kid, private_pem=pem, public_jwk=public, state=state, signs_since=signs_since)


@transaction.atomic
def rotate_signing_keys() -> SigningKey:
    """Let the published next key sign, make another next one, and retire what nobody believes any more (rule A3)."""
    ring.signing_key()  # makes the first keys on a new site
    now, states = timezone.now(), SigningKey.State
    rows = {row.state: row for row in SigningKey.objects.select_for_update().filter(state__in=["current", "next"])}
    retire_previous()
    _move(rows[states.CURRENT], states.PREVIOUS, not_after=now + PREVIOUS_LIFETIME)
    _move(rows[states.NEXT], states.CURRENT, signs_since=now)
    _make_key(states.NEXT)
    audit.record("signing_key.rotated", target=rows[states.NEXT], changes={"kid": rows[states.NEXT].kid})
    transaction.on_commit(ring.forget)
    return rows[states.NEXT]


def rotate_by_hand() -> SigningKey:
    """As ``rotate_signing_keys``, but never before every process knows the next key. Raises TooSoon."""
    ring.signing_key()
    next_key = SigningKey.objects.get(state=SigningKey.State.NEXT)
    known_at = next_key.created_at + PUBLISHED_FOR
    if (wait_s := (known_at - timezone.now()).total_seconds()) > 0:
        raise TooSoon(f"The next key is not known to every process yet. Try again in {wait_s:.0f} s.")
    return rotate_signing_keys()


@transaction.atomic
def rotate_if_due(after: timedelta) -> SigningKey | None:
    """For the scheduler: let the next key sign when the current one has signed for so long."""
    ring.signing_key()
    current = SigningKey.objects.select_for_update().get(state=SigningKey.State.CURRENT)
    is_due = timezone.now() - signs_since(current) >= after
    return rotate_signing_keys() if is_due else None


def signs_since(current: SigningKey) -> datetime:
    return current.signs_since or current.created_at  # keys of before the field


def retire_previous() -> None:
    """Erase the private halves of keys that nobody believes any more."""
    for row in SigningKey.objects.filter(state=SigningKey.State.PREVIOUS, not_after__lt=timezone.now()):
        _move(row, SigningKey.State.RETIRED, private_pem="")


def _move(row: SigningKey, state: SigningKey.State, **fields: Any) -> None:
    row.state = state
    for name, value in fields.items():
        setattr(row, name, value)
    row.save(update_fields=["state", *fields])


def jwks() -> dict[str, list[dict[str, Any]]]:
    """The public keys of tokens that may be around now or soon: next, current, and previous while believed."""
    ring.signing_key()
    states = [SigningKey.State.NEXT, SigningKey.State.CURRENT, SigningKey.State.PREVIOUS]
    believed = Q(not_after=None) | Q(not_after__gt=timezone.now())
    return {"keys": list(SigningKey.objects.filter(believed, state__in=states).values_list("public_jwk", flat=True))}
