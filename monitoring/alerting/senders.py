"""Ways to tell of alerts. The apps above register theirs: what can be reached, and how, they know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from smtplib import SMTPException
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.mail import EmailMessage, get_connection
from django.core.validators import validate_email
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from monitoring.redaction import redact

EMAIL: Final = "email"
SMTP_TIMEOUT_S: Final = 10
MOST_ADDRESSES: Final = 20


class SendingFailed(Exception):
    """The text says why, without secrets; ``permanent`` means that no retry will help."""

    def __init__(self, message: str, *, permanent: bool = False) -> None:
        super().__init__(redact(message)[:500])
        self.permanent = permanent


@dataclass(frozen=True, slots=True)
class Message:
    """``text`` is Markdown of the simplest kind; ``payload`` says the same to programs. ``id`` names it for good."""

    id: str
    title: str
    text: str
    payload: dict[str, Any] = field(default_factory=dict)


Send = Callable[[Message], None]


@dataclass(frozen=True, slots=True)
class Kind:
    """``check`` raises ValidationError for an address or secret that cannot be used. ``prepare`` returns what sends:
    it must not need the database any more, and raises SendingFailed. ``choices``: addresses to choose from."""

    name: str
    label: Any
    check: Callable[[str, str], None]
    prepare: Callable[[str, str], Send]
    choices: Callable[[], list[tuple[str, str]]] | None = None


_kinds: dict[str, Kind] = {}


def register(kind: Kind) -> None:
    _kinds[kind.name] = kind


def kinds() -> list[Kind]:
    return list(_kinds.values())


def kind(name: str) -> Kind | None:
    return _kinds.get(name)


# -- e-mail --


def addresses(text: str) -> list[str]:
    return text.replace(",", " ").replace(";", " ").split()


def _check_email(address: str, secret: str) -> None:
    found = addresses(address)
    if not found or len(found) > MOST_ADDRESSES:
        raise ValidationError(_("Give one to %(most)d e-mail addresses.") % {"most": MOST_ADDRESSES})
    for one in found:
        validate_email(one)
    if not settings.EMAIL_URL:
        raise ValidationError(_("Set EMAIL_URL first (docs/monitoring.md): there is no mail server to send by."))


def _prepare_email(address: str, secret: str) -> Send:
    def send(message: Message) -> None:
        if not settings.EMAIL_URL:
            raise SendingFailed(_("EMAIL_URL is not set: there is no mail server to send by."))
        mail = EmailMessage(message.title, message.text.replace("**", ""), to=addresses(address))
        mail.extra_headers = {"Message-ID": f"<{message.id}@clawdbot>", "Auto-Submitted": "auto-generated"}
        mail.connection = get_connection(timeout=SMTP_TIMEOUT_S)
        try:
            mail.send()
        except (SMTPException, OSError, ValueError) as error:
            text = _("The mail server did not take it: %(reason)s")
            raise SendingFailed(text % {"reason": f"{type(error).__name__}: {error}"}) from error

    return send


register(Kind(EMAIL, gettext_lazy("E-mail"), _check_email, _prepare_email))
