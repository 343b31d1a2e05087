"""What alerts ask of this app: the ages of keys and secrets, the public certificate's last day; and signed webhooks
as a way to tell of alerts (https://www.standardwebhooks.com)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from typing import Any, Final

import httpx
from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from clawdbot_site.security import key_clock, key_keeping, public_tls
from clawdbot_site.security.key_clock import Dated
from clawdbot_site.security.outbound import OutboundRefused, check_url, guarded_client
from monitoring import metrics
from monitoring.alerting import senders
from monitoring.alerting.rules import Breach, Look, Rule, register
from monitoring.alerting.senders import Kind, Message, Send, SendingFailed

CERTIFICATE_EVERY_S: Final = 3600.0
TIMEOUT: Final = httpx.Timeout(10.0, connect=3.0)
SHORTEST_SECRET: Final = 24  # bytes, as the standard says
PREFIX: Final = "whsec_"


def register_all() -> None:
    metrics.register_gauge("clawdbot_certificate_days_left", _certificate.days_left_or_nothing)
    senders.register(Kind("webhook", gettext_lazy("Webhook"), _check_webhook, _prepare_webhook))
    register(
        Rule("keys.age", gettext_lazy("A key is old"), "security", old_keys, 75, gettext_lazy("days")),
        Rule(key_keeping.RULE, gettext_lazy("Keys cannot be looked after"), "security", severity="critical"),
        Rule(
            "secrets.age",
            gettext_lazy("A secret is to be replaced"),
            "security",
            late_secrets,
            key_clock.WARN_BEFORE.days,
            gettext_lazy("days left"),
        ),
        Rule(
            "certificate.expiry",
            gettext_lazy("The certificate ends soon"),
            "security",
            ending_certificate,
            14,
            gettext_lazy("days left"),
        ),
    )


# -- keys and secrets: a rule each, so that nothing is told twice --


def old_keys(look: Look) -> Iterator[Breach]:
    """Keys that replace themselves: data key, and those that sign access tokens and the audit log."""
    for one in key_clock.own_keys():
        if one.age_days >= look.threshold:
            yield _late(one, one.age_days)


def late_secrets(look: Look) -> Iterator[Breach]:
    """Secrets that a person must enter anew: of platforms and of model services, by the day that stands at each."""
    for one in key_clock.entered_secrets():
        if one.days_left <= look.threshold:
            yield _late(one, one.days_left)


def _late(one: Dated, value: float) -> Breach:
    severity = "critical" if one.state() == "overdue" else ""
    details = {"kind": one.kind, "days": one.age_days, "due": one.due_on.isoformat()}
    return Breach(one.subject, f"{one.sentence()} {one.advice()}", float(value), severity, details)


# -- certificate --


class _Certificate:
    """Asked once an hour; a failure a little more often."""

    def __init__(self) -> None:
        self._days: int | None = None
        self._problem = ""
        self._asked_at = float("-inf")

    def ask(self) -> tuple[int | None, str]:
        pause_s = CERTIFICATE_EVERY_S / 12 if self._problem else CERTIFICATE_EVERY_S
        if settings.PUBLIC_URL.startswith("https://") and time.monotonic() - self._asked_at > pause_s:
            self._asked_at = time.monotonic()
            try:
                self._days, self._problem = public_tls.days_left(*public_tls.host_and_port(settings.PUBLIC_URL)), ""
            except OSError as error:
                self._days, self._problem = None, f"{type(error).__name__}: {error}"
        return self._days, self._problem

    def days_left_or_nothing(self) -> float | None:
        days, _problem = self.ask()
        return None if days is None else float(days)


_certificate: Final = _Certificate()


def ending_certificate(look: Look) -> Iterator[Breach]:
    days, problem = _certificate.ask()
    host = public_tls.host_and_port(settings.PUBLIC_URL)[0]
    if problem:
        text = _("%(host)s cannot be reached over TLS: %(reason)s")
        yield Breach(host, text % {"host": host, "reason": problem}, severity="critical")
    elif days is not None and days < look.threshold:
        text = _("The certificate of %(host)s ends in %(days)d days.") % {"host": host, "days": days}
        yield Breach(host, text, float(days), "critical" if days < look.threshold / 4 else "")


# -- webhooks --


def _check_webhook(address: str, secret: str) -> None:
    check_url(address)
    if secret:
        _key(secret)


def _key(secret: str) -> bytes:
    """Raises ValidationError."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) < SHORTEST_SECRET:
        words = _("A signing secret is whsec_ and at least 24 bytes in base64. Make one: %(command)s")
        command = (
            "python3 -c 'import base64,secrets; print(\"whsec_\"+base64.b64encode(secrets.token_bytes(32)).decode())'"
        )
        raise ValidationError(words % {"command": command})
    return key


def _prepare_webhook(address: str, secret: str) -> Send:
    def send(message: Message) -> None:
        content = json.dumps(message.payload, ensure_ascii=False).encode()
        headers = {"content-type": "application/json", **_signature(message.id, content, secret)}
        try:
            with guarded_client(timeout=TIMEOUT) as client:
                answer = client.post(address, content=content, headers=headers)
        except OutboundRefused as error:
            raise SendingFailed(str(error), permanent=True) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise SendingFailed(_("The webhook was not reached (%s).") % type(error).__name__) from error
        if not answer.is_success:
            text = _("The webhook answered HTTP %(status)d.") % {"status": answer.status_code}
            raise SendingFailed(text, permanent=answer.status_code == httpx.codes.GONE)

    return send


def _signature(message_id: str, content: bytes, secret: str) -> dict[str, Any]:
    now = str(int(time.time()))
    headers = {"webhook-id": message_id, "webhook-timestamp": now}
    if not secret:
        return headers
    signed = b".".join([message_id.encode(), now.encode(), content])
    mark = base64.b64encode(hmac.digest(_key(secret), signed, hashlib.sha256)).decode()
    return {**headers, "webhook-signature": f"v1,{mark}"}
