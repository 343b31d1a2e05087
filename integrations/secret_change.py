"""Changing an app's secrets without a gap: a new one stands beside the old, is tried, and then the old one retires.

From its entering on, callbacks by either are believed. Calls are made with the new one once the platform took it.
Every step is audited in its own transaction; the platform is asked outside of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, Final, Literal

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from clawdbot_site.security.encryption import DecryptionError
from clawdbot_site.security.key_clock import Dated, due_date
from clawdbot_site.security.key_ring import fingerprint
from integrations.errors import PlatformError
from integrations.models import PlatformCredential
from integrations.registry import adapter_for
from monitoring import audit

SECRETS: Final = PlatformCredential.SECRETS
INCOMING: Final = ("verification_token", "encrypt_key")  # only the platform can show that it has these
RETIRE_AFTER: Final = timedelta(days=7)
LONGEST_ERROR: Final = 300
State = Literal["none", "refused", "entered", "proved"]


class CannotChange(Exception):
    """The step does not fit where the change stands; the message says what to do."""


def state(credential: PlatformCredential) -> State:
    if credential.next_entered_at is None:
        return "none"
    if credential.next_error:
        return "refused"
    return "entered" if unproved(credential) else "proved"


def fingerprints(credential: PlatformCredential) -> dict[str, str]:
    """Of the new secrets that were entered, by the name of the old."""
    found: dict[str, str] = {}
    for name in SECRETS:
        try:
            found[name] = fingerprint(getattr(credential, f"next_{name}"))
        except DecryptionError:
            found[name] = "unreadable"
    return {name: text for name, text in found.items() if text}


def label(name: str) -> str:
    """How people call a field of the credential."""
    return str(getattr(PlatformCredential._meta.get_field(name), "verbose_name", name))


def unproved(credential: PlatformCredential) -> list[str]:
    """The new secrets of which nobody knows yet whether the platform has them."""
    entered = fingerprints(credential)
    calls = [] if credential.next_proved_at else [name for name in entered if name == "app_secret"]
    heard = [] if credential.next_heard_at else [name for name in entered if name in INCOMING]
    return [*calls, *heard]


def enter(
    credential: PlatformCredential, given: Mapping[str, str], retire_after: timedelta | None = RETIRE_AFTER
) -> None:
    """Put new secrets beside those in use, and try them. Raises CannotChange."""
    new = {name: text for name in SECRETS if (text := given.get(name, ""))}
    if not new:
        raise CannotChange(_("Enter at least one new secret."))
    if any(getattr(credential, name) == text for name, text in new.items()):
        raise CannotChange(_("This secret is the one in use already. Copy the new one from the console."))
    with transaction.atomic():
        _clear(credential)
        for name, text in new.items():
            setattr(credential, f"next_{name}", text)
        credential.next_entered_at = timezone.now()
        credential.next_retires_at = credential.next_entered_at + retire_after if retire_after else None
        credential.save()
        changes = audit.diff({}, {f"next_{name}": fingerprint(text) for name, text in new.items()})
        audit.record("credential.secret_entered", target=credential, changes=changes)
    try_new(credential)


def try_new(credential: PlatformCredential) -> bool:
    """Ask the platform whether it takes the new app secret; the answer is kept. Raises CannotChange."""
    _must_be_changing(credential)
    error = _refusal(credential) if credential.next_app_secret else ""
    with transaction.atomic():
        credential.next_error = error[:LONGEST_ERROR]
        credential.next_proved_at = None if error or not credential.next_app_secret else timezone.now()
        credential.save()
        outcome: Literal["failure", "success"] = "failure" if error else "success"
        audit.record("credential.secret_tried", target=credential, outcome=outcome, reason=credential.next_error)
    return not error


def heard(credential: PlatformCredential) -> None:
    """A callback came that is authentic by the new secrets."""
    changing = PlatformCredential.objects.filter(pk=credential.pk, next_entered_at=credential.next_entered_at)
    changing.filter(next_heard_at=None).update(next_heard_at=timezone.now())
    credential.next_heard_at = timezone.now()


def retire_old(credential: PlatformCredential, *, even_unproved: bool = False) -> None:
    """Let the new secrets take the place of the old ones, for good. Raises CannotChange."""
    _must_be_changing(credential)
    missing = unproved(credential)
    if credential.next_error or (missing and not even_unproved):
        names = ", ".join(map(label, missing))
        raise CannotChange(
            _("Not proved yet: %(names)s. Try the new secret, or send the bot a message.") % {"names": names}
        )
    with transaction.atomic():
        given = {name: text for name in SECRETS if (text := getattr(credential, f"next_{name}"))}
        before = {name: fingerprint(getattr(credential, name)) for name in given}
        for name, text in given.items():
            setattr(credential, name, text)
        _clear(credential)
        credential.save()
        changes = audit.diff(before, {name: fingerprint(text) for name, text in given.items()})
        audit.record("credential.secret_retired", target=credential, changes=changes)


def withdraw(credential: PlatformCredential) -> None:
    """Give the new secrets up; the old ones stay. Raises CannotChange."""
    _must_be_changing(credential)
    with transaction.atomic():
        changes = audit.diff({f"next_{name}": text for name, text in fingerprints(credential).items()}, {})
        _clear(credential)
        credential.save()
        audit.record("credential.secret_withdrawn", target=credential, changes=changes)


def retire_due() -> int:
    """For the scheduler: retire the old secrets whose time is up and whose successors are proved."""
    due = [one for one in PlatformCredential.objects.filter(next_retires_at__lte=timezone.now()) if _is_proved(one)]
    for credential in due:
        retire_old(credential)
    return len(due)


def ages() -> Iterator[Dated]:
    """For the clock of all secrets."""
    fields = ("name", "platform", "secret_set_at", "rotate_by", "created_at")
    for row in PlatformCredential.objects.exclude(app_secret="").only(*fields):
        made_at = row.secret_made_at
        name = _("The app secret of %(credential)s") % {"credential": row}
        yield Dated("platform_credential", f"credential:{row.pk}", name, made_at, row.rotate_by or due_date(made_at))


def _is_proved(credential: PlatformCredential) -> bool:
    return state(credential) == "proved"


def _refusal(credential: PlatformCredential) -> str:
    try:
        adapter_for(credential.platform).prove_secret(credential.next_values())
    except PlatformError as problem:
        return str(problem)
    return ""


def _must_be_changing(credential: PlatformCredential) -> None:
    if credential.next_entered_at is None:
        raise CannotChange(_("There is no new secret. Enter one first."))


def _clear(credential: PlatformCredential) -> None:
    nothing: dict[str, Any] = {f"next_{name}": "" for name in SECRETS}
    times = dict.fromkeys(("next_entered_at", "next_proved_at", "next_heard_at", "next_retires_at"))
    for name, value in {**nothing, **times, "next_error": ""}.items():
        setattr(credential, name, value)
