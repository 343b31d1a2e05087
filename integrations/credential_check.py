"""The connection check of a credential: what its platform says, what is stored here, and what the apps above know.

Those register their part when they start (``register``), for this app knows no bot.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from django.utils.translation import gettext as _

from clawdbot_site.security.encryption import DecryptionError
from integrations import quota
from integrations.checking import NO_WAY_IN, Finding, WayIn, worst_first
from integrations.metering import SPARING_SHARE
from integrations.models import Platform, PlatformCredential, QuotaUsage
from integrations.registry import adapter_for
from monitoring import audit

Source = Callable[[PlatformCredential], list[Finding]]
WaysIn = Callable[[PlatformCredential], WayIn]

_sources: list[Source] = []
_ways_in: list[WaysIn] = []


def register(source: Source) -> None:
    """Let ``source`` add its findings to every check. Registering it twice counts once."""
    if source not in _sources:
        _sources.append(source)


def register_way_in(way_in: WaysIn) -> None:
    """Let ``way_in`` tell how a credential's platform should reach us; the last one registered is asked."""
    _ways_in[:] = [way_in]


def check(credential: PlatformCredential) -> list[Finding]:
    """Call the platform, look at what is stored, worst first. Sends nothing to anybody; takes 15 s at most.

    Leaves an audit entry. Never raises for what is wrong with the app: that is what the findings are for.
    """
    found = _of_app(credential)
    found += [finding for source in _sources for finding in source(credential)]
    audit.record("credential.checked", target=credential, changes=dict(Counter(one.level for one in found)))
    return worst_first(found)


def _of_app(credential: PlatformCredential) -> list[Finding]:
    try:
        way_in = _ways_in[0](credential) if _ways_in else NO_WAY_IN
        said = adapter_for(credential.platform).check(credential.values(), way_in)
        return [*said, *_unsigned(credential), *_short_quotas(credential)]
    except DecryptionError:
        what = _("A stored secret cannot be read: the key that it was encrypted with is missing, or it was altered.")
        return [
            Finding("failed", what, _("See `manage.py keys status`; bring the key back, or enter the secrets again."))
        ]


def _unsigned(credential: PlatformCredential) -> list[Finding]:
    if credential.platform != Platform.FEISHU or credential.encrypt_key:
        return []
    fix = _("Set one in Feishu's console under Events & Callbacks, Encryption Strategy, and copy it here.")
    if credential.allow_unsigned:
        return [Finding("warning", _("There is no Encrypt Key: callbacks are not signed, and can be forged."), fix)]
    return [Finding("failed", _("There is no Encrypt Key: every callback of Feishu is refused."), fix)]


def _short_quotas(credential: PlatformCredential) -> list[Finding]:
    return [_short(state) for state in quota.states(credential) if state.share >= SPARING_SHARE]


def _short(state: quota.State) -> Finding:
    calls = QuotaUsage.Quota(state.quota).label
    fix = _("Raise the company's plan, and then the figure in the credential; or wait for the next month.")
    if state.share >= 1.0:
        return Finding("failed", _("The month's quota is used up: %(calls)s.") % {"calls": calls}, fix)
    values = {"calls": calls, "used": f"{state.used:,}", "limit": f"{state.limit:,}"}
    what = _("The month's quota is nearly used up: %(used)s of %(limit)s %(calls)s.")
    return Finding("warning", what % values, fix)
