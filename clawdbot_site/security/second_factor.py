"""Second factors: who needs one, setting one up, proving it. Knows no request; the pages are in ``sign_in_pages.py``.

A code counts once: of an authenticator app by its time step, a recovery code by its row. Both are conditional writes,
so of two uses at the same time one wins.
"""

from __future__ import annotations

import secrets
import time
from typing import Final, Literal

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from clawdbot_site.security import key_ring, totp
from clawdbot_site.security.models import RecoveryCode, SecondFactor, User
from clawdbot_site.security.roles import Role, roles_of
from monitoring import audit

Method = Literal["app", "recovery code"]
ALL_STAFF: Final = "staff"  # beside the roles, in MFA_REQUIRED_ROLES
RECOVERY_CODES: Final = 10
RECOVERY_DIGITS: Final = 12  # digits only: phones offer their number keys
ISSUER: Final = "ClawdBot"


def is_required_of(user: User) -> bool:
    """Whether the settings want a second factor of this account. Superusers count as owners."""
    wanted = set(settings.MFA_REQUIRED_ROLES)
    if not wanted:
        return False
    if ALL_STAFF in wanted and (user.is_staff or user.is_superuser):
        return True
    return (user.is_superuser and Role.OWNER.value in wanted) or bool(wanted & roles_of(user))


def is_set_up(user: User) -> bool:
    return SecondFactor.objects.filter(user=user, confirmed_at__isnull=False).exists()


def is_needed(user: User) -> bool:
    """Whether a sign-in of this account ends with a second factor: it has one, or must have one."""
    return is_required_of(user) or is_set_up(user)


def pending_secret(user: User) -> str:
    """The secret that the set-up page shows until a code of it is given; the same one each time it is asked for."""
    factor, _made = SecondFactor.objects.get_or_create(id=user.pk, user=user)
    if not factor.pending_secret:
        factor.pending_secret = totp.new_secret()
        factor.save(update_fields=["pending_secret"])
    return factor.pending_secret


def uri_of(secret: str, user: User) -> str:
    return totp.provisioning_uri(secret, user.get_username(), ISSUER)


@transaction.atomic
def set_up(user: User, code: str) -> list[str] | None:
    """Take the pending secret into use if this is a code of it, and return new recovery codes; None: it is not.

    Whoever is signed in elsewhere without the second factor is signed out: ``sign_out_everywhere``.
    """
    factor = SecondFactor.objects.select_for_update().filter(user=user).exclude(pending_secret="").first()
    step = totp.matching_step(factor.pending_secret, _digits(code), time.time()) if factor else None
    if factor is None or step is None:
        return None
    action = "second_factor.replaced" if factor.confirmed_at else "second_factor.set_up"
    factor.secret, factor.pending_secret = factor.pending_secret, ""
    factor.confirmed_at = factor.last_used_at = timezone.now()
    factor.last_step = step
    factor.save()
    audit.record(action, target=user)
    sign_out_everywhere(user, reason="a second factor was set up")
    return _new_recovery_codes(user)


@transaction.atomic
def renew_recovery_codes(user: User) -> list[str]:
    """New recovery codes; the old ones end."""
    audit.record("second_factor.codes_renewed", target=user)
    return _new_recovery_codes(user)


def _new_recovery_codes(user: User) -> list[str]:
    RecoveryCode.objects.filter(user=user).delete()
    codes = [f"{secrets.randbelow(10**RECOVERY_DIGITS):0{RECOVERY_DIGITS}}" for _number in range(RECOVERY_CODES)]
    RecoveryCode.objects.bulk_create(RecoveryCode(user=user, digest=_digest(user, code)) for code in codes)
    return [" ".join(code[begin : begin + 4] for begin in range(0, RECOVERY_DIGITS, 4)) for code in codes]


def codes_left(user: User) -> int:
    return RecoveryCode.objects.filter(user=user, used_at=None).count()


def prove(user: User, code: str) -> Method | None:
    """How a code proves the account, once; None: it does not."""
    digits = _digits(code)
    if len(digits) == totp.DIGITS:
        return "app" if _use_app_code(user, digits) else None
    if len(digits) == RECOVERY_DIGITS:
        return "recovery code" if _use_recovery_code(user, digits) else None
    return None


def _use_app_code(user: User, code: str) -> bool:
    factor = SecondFactor.objects.filter(user=user, confirmed_at__isnull=False).first()
    step = totp.matching_step(factor.secret, code, time.time()) if factor else None
    if step is None:
        return False
    fresh = SecondFactor.objects.filter(user=user, last_step__lt=step)
    return bool(fresh.update(last_step=step, last_used_at=timezone.now()))


def _use_recovery_code(user: User, code: str) -> bool:
    with transaction.atomic():
        unused = RecoveryCode.objects.filter(user=user, digest=_digest(user, code), used_at=None)
        won = bool(unused.update(used_at=timezone.now()))
        if won:
            audit.record("second_factor.code_used", target=user, changes={"codes_left": codes_left(user)})
    return won


@transaction.atomic
def remove(user: User, *, reason: str = "") -> bool:
    """Forget app and recovery codes, and sign the account out everywhere. False: there was nothing to forget."""
    found, _each = SecondFactor.objects.filter(user=user).delete()
    RecoveryCode.objects.filter(user=user).delete()
    if found:
        audit.record("second_factor.removed", target=user, reason=reason)
        sign_out_everywhere(user, reason="the second factor was removed")
    return bool(found)


@transaction.atomic
def sign_out_everywhere(user: User, *, reason: str = "") -> None:
    """End every session and refresh token of an account. Access tokens end by themselves within five minutes."""
    row = User.objects.select_for_update().get(pk=user.pk)
    user.sign_outs = row.sign_outs + 1
    user.save(update_fields=["sign_outs"])
    audit.record("auth.signed_out_everywhere", target=user, reason=reason)


def _digits(code: str) -> str:
    """As people type it: with spaces or a hyphen between."""
    return "".join(code.split()).replace("-", "") if len(code) <= 64 else ""


def _digest(user: User, code: str) -> str:
    return key_ring.lookup_hash(f"recovery code:{user.pk}:{code}")
