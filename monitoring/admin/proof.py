"""The page for auditors about the log's proof: how far it is sealed, signed and copied, and "verify now"."""

from __future__ import annotations

from typing import Any, Final

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _

from monitoring import grants, retention, sealer, signing, sinks, verifying
from monitoring.models import AuditCheckpoint, AuditSink

BUDGET_S: Final = 25.0  # of a request; a longer log is for the command


def page(request: HttpRequest, site: Any) -> HttpResponse:
    """GET shows the state, POST verifies and shows what came of it."""
    if not request.user.has_perm("monitoring.view_auditlog"):
        raise PermissionDenied
    report = None
    if request.method == "POST":
        report = verifying.verify(budget_s=BUDGET_S)
        verifying.record(report)
    last = AuditCheckpoint.objects.first()
    sequence, hash_ = sealer.head()
    context = {
        **site.each_context(request),
        "title": _("Proof of the audit log"),
        "report": report,
        "problems": report.problems[: verifying.MOST_NAMED] if report else [],
        "last": last,
        "sequence": sequence,
        "hash": hash_,
        "waiting": int(sealer.waiting()),
        "fingerprint": signing.grouped(signing.signer().fingerprint),
        "sinks": _sinks(),
        "complaints": report.warnings if report else [*grants.excess(), *sinks.complaints()],
        "purge": retention.last_purge(),
    }
    return render(request, "monitoring/proof.html", context)


def _sinks() -> list[AuditSink]:
    """In the order of the settings; one that was never reached has no row yet."""
    known = {row.name: row for row in AuditSink.objects.all()}
    return [known.get(sink.name) or AuditSink(name=sink.name) for sink in sinks.configured()]
