"""The audit log: its checkpoints on another host, the database's own guards, and receivers that take entries."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from django.conf import settings
from django.db import connection
from django.utils.translation import gettext as _

from monitoring import audit_forwarding, grants, sinks, triggers
from monitoring.doctor import Finding
from monitoring.models import AuditSink

LOOPBACK = ("localhost", "127.0.0.1", "::1", "")


def check() -> Iterator[Finding]:
    yield from _protection()
    for text in sinks.troubles():
        yield Finding("warning", text, _("Look at the sink; copies go on by themselves. See docs/audit.md."))
    names = [audit_forwarding.cursor_name(receiver) for receiver in audit_forwarding.configured()]
    for state in AuditSink.objects.filter(name__in=names, failing_since__isnull=False):
        what = _("%(receiver)s takes no audit entries: %(error)s") % {"receiver": state.name, "error": state.error}
        yield Finding("warning", what, _("Look at the receiver; it then gets all that it missed."))


def _protection() -> Iterator[Finding]:
    for name in triggers.all_missing(connection):
        what = _("The database's trigger %(name)s is gone: audit entries could be changed.") % {"name": name}
        fix = _(
            "Find out who removed it, verify the log (python manage.py audit verify), then restore a backup's schema."
        )
        yield Finding("failed", what, fix)
    for text in grants.excess():
        fix = _("Make two roles and set DATABASE_OWNER_URL: docs/audit.md, Who may write what.")
        yield Finding("warning", text, fix)


def places() -> Iterator[Finding]:
    """Who holds this machine can rewrite its audit log, unless signed checkpoints of it lie somewhere else."""
    hosts = [host for host in map(_sink_host, getattr(settings, "AUDIT_SINKS", [])) if host not in LOOPBACK]
    if hosts:
        yield Finding("ok", _("Checkpoints of the audit log are copied to %(hosts)s.") % {"hosts": ", ".join(hosts)})
        return
    what = _("Checkpoints of the audit log stay on this machine: who takes it over can rewrite both.")
    yield Finding("warning", what, _("Add a place on another host to AUDIT_SINKS (syslog: or https:)."))


def _sink_host(sink: str) -> str:
    scheme, _colon, rest = sink.partition(":")
    return "" if scheme == "file" else urlsplit(f"//{rest.lstrip('/')}").hostname or ""
