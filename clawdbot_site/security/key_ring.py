"""The data keys of this process: read from the database once, made at migrate time, rotated, wrapped again.

The one bridge between ``encryption.py``, which knows no database, and the DataKey rows. Everybody else asks here for
``seal``, ``unseal``, ``fingerprint`` and ``lookup_hash``. All of it is synchronous.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any, Final

from django.apps import apps as installed_apps
from django.conf import settings
from django.core import checks
from django.db import DEFAULT_DB_ALIAS, IntegrityError, transaction
from django.db.models import F
from django.utils import timezone

from clawdbot_site.security import encryption, key_providers
from clawdbot_site.security.encryption import DecryptionError, Digests, KeyRing
from clawdbot_site.security.key_providers import KeyProvider, Wrapped
from clawdbot_site.security.key_providers import KeysUnavailable as KeysUnavailable
from clawdbot_site.security.models.keys import DataKey
from monitoring import audit

REFRESH_S: Final = 10.0  # so long this process may go on sealing under a key that another one replaced
ROTATE_AFTER: Final = timedelta(days=90)
MAX_USES: Final = 2**30  # random nonces are safe up to 2^32 (NIST SP 800-38D, 8.3)
ROTATE_AT_USES: Final = MAX_USES * 3 // 4  # before that: uses are looked at once an hour
USES_PER_BLOCK: Final = 1024

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Loaded:
    keys: Mapping[int, bytes] = field(repr=False)  # of all purposes
    ring: KeyRing
    digests: Digests
    read_at_s: float

    @classmethod
    def of(cls, rows: list[DataKey]) -> _Loaded:
        keys = {row.key_id: _opened(row) for row in rows}
        primary = {row.purpose: row.key_id for row in rows if row.state == DataKey.State.PRIMARY}
        encrypting = {row.key_id: keys[row.key_id] for row in rows if row.purpose == DataKey.Purpose.ENCRYPT}
        ring = KeyRing(primary[DataKey.Purpose.ENCRYPT], encrypting)
        return cls(keys, ring, Digests(keys[primary[DataKey.Purpose.DIGEST]]), time.monotonic())


_lock = threading.Lock()
_loaded: _Loaded | None = None
# Data keys by their ids, opened once: a Vault that is down does not stop a running process.
_material: dict[int, bytes] = {}
_opening = threading.Lock()
_uncommitted: set[int] = set()  # ids of keys that this process made and that may yet be rolled back
_uses_left: dict[int, int] = {}
_refused_at_s = -REFRESH_S


def seal(plaintext: str, aad: bytes) -> bytes:
    """Encrypt under the primary key. Raises ValueError for text that UTF-8 cannot hold, KeysUnavailable."""
    ring = _fresh().ring
    _count_use(ring.primary_id)
    return ring.seal(plaintext, aad)


def unseal(sealed: bytes, aad: bytes) -> str:
    """Decrypt. Raises DecryptionError. A key that another process has made since is looked up."""
    loaded = _current()
    if encryption.key_id_of(sealed) not in loaded.ring.keys:
        loaded = _reloaded(loaded)
    return loaded.ring.open(sealed, aad)


def primary_id() -> int:
    return _fresh().ring.primary_id


def fingerprint(secret: str) -> str:
    """Twelve hex characters by which an admin recognises a secret; empty for an empty one."""
    return _current().digests.fingerprint(secret)


def lookup_hash(value: str) -> str:
    """64 hex characters, stable for the life of the installation, by which a row is found without its secret."""
    return _current().digests.lookup_hash(value)


def derived_key(use: str) -> bytes:
    """A key for one use of another app (the audit log's marks), stable for the life of the installation."""
    return _current().digests.derived_key(use)


def is_stale(sealed: bytes) -> bool:
    """Whether another data key has become the primary one since this was sealed."""
    return encryption.key_id_of(sealed) != primary_id()


def forget() -> None:
    """Read and open the keys anew at the next need, as a new process would."""
    global _refused_at_s
    _refused_at_s = -REFRESH_S
    _material.clear()
    reread()


def reread() -> None:
    """Look at the next need which keys there are; those that were opened stay open."""
    global _loaded
    _loaded = None


def open_at_start() -> None:
    """Open all data keys before the first request comes; what may pass is tried again for a while.

    Raises KeysUnavailable, DatabaseError.
    """
    with key_providers.patiently():
        _load()


def _current() -> _Loaded:
    return _loaded or _load()


def _fresh() -> _Loaded:
    """As ``_current``, but not older than REFRESH_S."""
    loaded = _current()
    return loaded if time.monotonic() - loaded.read_at_s <= REFRESH_S else _reloaded(loaded)


def _reloaded(loaded: _Loaded) -> _Loaded:
    """Read anew; a process to which the newest key stays closed goes on with the data keys it has."""
    global _loaded, _refused_at_s
    if time.monotonic() - _refused_at_s <= REFRESH_S:
        return loaded  # not each request shall wait for a Vault that is down
    try:
        return _load()
    except KeysUnavailable as error:
        logger.warning("a new data key cannot be opened; the known ones go on", extra={"reason": str(error)})
        _refused_at_s = time.monotonic()
        _loaded = replace(loaded, read_at_s=_refused_at_s)
        return _loaded


def _load() -> _Loaded:
    """Read, and make what is missing. Not remembered while a key in it may still be rolled back."""
    global _loaded
    loaded = _Loaded.of(_rows())
    if _uncommitted.isdisjoint(loaded.keys):
        _loaded = loaded
    return loaded


def _rows() -> list[DataKey]:
    rows = list(DataKey.objects.all())
    if {row.purpose for row in rows if row.state == DataKey.State.PRIMARY} != {*DataKey.Purpose.values}:
        create_missing()
        rows = list(DataKey.objects.all())
    return rows


def _opened(row: DataKey) -> bytes:
    with _opening:  # one thread asks, the others find the answer
        if row.key_id not in _material:
            _material[row.key_id] = _unwrapped(row)
        return _material[row.key_id]


def _unwrapped(row: DataKey) -> bytes:
    try:
        return key_providers.unwrap(_wrapped(row), _label(row))
    except DecryptionError:
        raise KeysUnavailable(
            f"Data key {row} was wrapped by the key-encryption key {row.kek_id}, which is lost or does not open it. "
            f"Bring that key back to where KEY_PROVIDER={settings.KEY_PROVIDER} looks, after the newest."
        ) from None


def _wrapped(row: DataKey) -> Wrapped:
    return Wrapped(bytes(row.wrapped), row.kek_id)


def _label(row: DataKey) -> bytes:
    return encryption.wrapping_label(row.key_id, row.purpose)


# -- making, rotating, wrapping --


def create_missing(model: type[DataKey] = DataKey, using: str = DEFAULT_DB_ALIAS) -> None:
    """Make the first key of each purpose. Of two processes at once, the database lets one win."""
    primaries = model._default_manager.using(using).filter(state=DataKey.State.PRIMARY)
    held = set(primaries.values_list("purpose", flat=True))
    for purpose in sorted({*DataKey.Purpose.values} - held):  # in one order everywhere: no deadlock
        try:
            with transaction.atomic(using=using):
                _create(model, using, purpose)
        except IntegrityError:
            logger.info("another process made the data key", extra={"purpose": purpose})


def _create(model: type[DataKey], using: str, purpose: str) -> DataKey:
    key_id, key = encryption.new_key_id(), secrets.token_bytes(encryption.KEY_BYTES)
    wrapped = key_providers.wrapping().wrap(key, encryption.wrapping_label(key_id, purpose))
    row = model(key_id=key_id, purpose=purpose, wrapped=wrapped.data, kek_id=wrapped.kek_id)
    _uncommitted.add(key_id)
    row.save(using=using)
    transaction.on_commit(partial(_uncommitted.discard, key_id), using=using)
    return row


def rotate() -> DataKey:
    """Make a new primary key now; the old one goes on opening. Other processes follow within REFRESH_S. Audited."""
    with transaction.atomic():
        create_missing()
        hold()
        rewrap()
        primary = DataKey.objects.filter(purpose=DataKey.Purpose.ENCRYPT, state=DataKey.State.PRIMARY)
        old = primary.get()
        primary.update(state=DataKey.State.ACTIVE)
        new = _create(DataKey, DEFAULT_DB_ALIAS, DataKey.Purpose.ENCRYPT)
        audit.record("keys.rotated", target=new, changes=audit.diff({"primary": str(old)}, {"primary": str(new)}))
        transaction.on_commit(reread)
    return new


def rotate_if_due() -> DataKey | None:
    """For the scheduler: rotate a primary key that is 90 days old or has sealed nearly 2^30 times (rule E8)."""
    with transaction.atomic():
        hold()  # of two schedulers at once the second finds a new key
        key = DataKey.objects.get(purpose=DataKey.Purpose.ENCRYPT, state=DataKey.State.PRIMARY)
        is_due = timezone.now() - key.created_at >= ROTATE_AFTER or key.uses >= ROTATE_AT_USES
        return rotate() if is_due else None


def hold(model: type[DataKey] = DataKey, using: str = DEFAULT_DB_ALIAS) -> None:
    """Let one transaction at a time change the keys: it locks the one row that never changes its state."""
    list(model._default_manager.using(using).select_for_update().filter(purpose=DataKey.Purpose.DIGEST))


def rewrap(model: type[DataKey] = DataKey, using: str = DEFAULT_DB_ALIAS) -> int:
    """Wrap every data key that an older key-encryption key wraps with the newest; return how many. Audited."""
    provider = key_providers.wrapping()
    newest = provider.wrapping_keys()[0]
    with transaction.atomic(using=using):
        hold(model, using)
        rows = list(model._default_manager.using(using).exclude(kek_id=newest))
        for row in rows:
            wrapped = _rewrapped(provider, row)
            row.wrapped, row.kek_id = wrapped.data, wrapped.kek_id
            row.save(using=using, update_fields=["wrapped", "kek_id"])
        if rows:
            audit.record("keys.rewrapped", target_label=newest, changes=audit.diff({}, {"rewrapped": len(rows)}))
    return len(rows)


def _rewrapped(provider: KeyProvider, row: DataKey) -> Wrapped:
    """By the provider itself where it wrapped the key; else opened by whoever did."""
    if provider.takes(_wrapped(row)):
        try:
            return provider.rewrap(_wrapped(row), _label(row))
        except DecryptionError:
            pass  # it says below which key is missing
    return provider.wrap(_unwrapped(row), _label(row))


def _count_use(key_id: int) -> None:
    """Note in the database, a block ahead and after the caller's commit, how often a key has sealed (rule E8)."""
    with _lock:
        left = _uses_left.get(key_id, 0)
        _uses_left[key_id] = (left or USES_PER_BLOCK) - 1
    if not left:
        key = DataKey.objects.filter(key_id=key_id)
        transaction.on_commit(partial(key.update, uses=F("uses") + USES_PER_BLOCK), robust=True)


# -- start: what the AppConfig connects --


def after_migrate(using: str = DEFAULT_DB_ALIAS, apps: Any = installed_apps, **kwargs: Any) -> None:
    """Receiver of ``post_migrate``: keys exist before anybody needs one, under the newest key-encryption key."""
    try:
        model = apps.get_model("security", "DataKey")
    except LookupError:  # migrated back to before there were keys
        return
    forget()
    with key_providers.patiently():
        create_missing(model, using)
        rewrap(model, using)


def check_settings(app_configs: object = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """System check: the key provider is one that we have, and its keys are keys. It calls nobody."""
    if problem := key_providers.problem():
        return [checks.Error(problem, id="security.E010")]
    return []
