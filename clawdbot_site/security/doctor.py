"""What doctor asks of keys, second factors and the TLS of the public address."""

from __future__ import annotations

from collections.abc import Iterator

from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext as _

from clawdbot_site.security import key_clock, key_providers, key_ring, public_tls
from clawdbot_site.security.models.keys import DataKey
from clawdbot_site.security.reencryption import rows_by_key, secret_columns
from monitoring import doctor
from monitoring.doctor import Finding

EXPIRES_SOON_DAYS = 14
LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")


def register() -> None:
    doctor.register("keys", keys)
    doctor.register("ages of secrets", ages)
    doctor.register("sign-in", sign_in, needs_database=False)
    doctor.register("tls", tls, needs_database=False)


def keys() -> Iterator[Finding]:
    key_ring.forget()
    try:
        primary = DataKey.objects.get(key_id=key_ring.primary_id())
        newest = key_providers.wrapping().wrapping_keys()[0]
    except key_ring.KeysUnavailable as error:
        yield Finding("failed", str(error), _("See docs/operations.md, Keys: no stored secret can be read without it."))
        return
    found = [*_lost(), *_wrapped_by_old(newest)]
    yield from found
    if not found:
        values = {"days": (timezone.now() - primary.created_at).days, "newest": newest}
        what = _("All secrets can be opened; the data key is %(days)s days old, wrapped by %(newest)s.")
        yield Finding("ok", what % values)


def _lost() -> Iterator[Finding]:
    rows = rows_by_key(secret_columns())
    lost = sum(rows[key_id] for key_id in rows.keys() - set(DataKey.objects.values_list("key_id", flat=True)))
    if lost:
        what = _("%(count)s secrets are sealed by a key that is not in the database.") % {"count": lost}
        yield Finding("failed", what, _("Restore the backup they came from, or enter them anew in the admin."))


def _wrapped_by_old(newest: str) -> Iterator[Finding]:
    if DataKey.objects.exclude(kek_id=newest).exists():
        what = _("Some data keys are still wrapped by an older key-encryption key.")
        yield Finding("warning", what, _("Run: python manage.py keys reencrypt, before you remove the old one."))


def ages() -> Iterator[Finding]:
    """Keys and secrets that should be replaced soon, or should have been (rule E8)."""
    late = [one for one in key_clock.all_dated() if one.state() != "fresh"]
    for one in late:
        yield Finding("warning", one.sentence(), one.advice())
    if not late:
        yield Finding(
            "ok", _("No key and no secret is older than %(days)s days.") % {"days": key_clock.WARN_AFTER.days}
        )


def sign_in() -> Iterator[Finding]:
    roles = list(settings.MFA_REQUIRED_ROLES)
    if roles:
        yield Finding("ok", _("A second factor is required of: %(roles)s.") % {"roles": ", ".join(map(str, roles))})
        return
    what = _("No second factor is required of anybody: a password is enough for the admin.")
    if settings.EMBEDDED:
        what = _("Embedded mode: no second factor is required of anybody, a password is enough for the admin.")
    yield Finding("warning", what, _("Set MFA_REQUIRED_ROLES before others can reach this site."))


def tls() -> Iterator[Finding]:
    """Asks the public address as the world does: certificate, its last day, and protocols that are too old."""
    url = settings.PUBLIC_URL
    host, port = public_tls.host_and_port(url)
    if not url.startswith("https://"):
        yield _plain(url, host)
        return
    try:
        days_left = public_tls.days_left(host, port)
    except OSError as error:  # refused, unknown, or a certificate that nobody would take
        what = _("%(url)s cannot be reached over TLS: %(reason)s") % {"url": url, "reason": error}
        yield Finding("failed", what, _("Check the name, nginx, and its certificate with the whole chain."))
        return
    yield _certificate(days_left)
    if public_tls.takes_old_protocols(host, port):
        what = _("%(url)s still takes TLS 1.0 or 1.1.") % {"url": url}
        yield Finding("failed", what, _("In nginx: ssl_protocols TLSv1.2 TLSv1.3;"))


def _plain(url: str, host: str) -> Finding:
    if host in LOCAL_HOSTS:
        return Finding("ok", _("The site is for this machine only (%(url)s): no TLS is needed.") % {"url": url})
    what = _("The public address is not https: %(url)s. Passwords and messages can be read on their way.")
    return Finding("warning", what % {"url": url}, _("Put nginx with a certificate before it (docs/operations.md)."))


def _certificate(days_left: int) -> Finding:
    if days_left > EXPIRES_SOON_DAYS:
        return Finding("ok", _("The certificate is valid for %(days)s more days.") % {"days": days_left})
    what = _("The certificate ends in %(days)s days.") % {"days": days_left}
    return Finding("warning", what, _("Renew it, for example: certbot renew"))
