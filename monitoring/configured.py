"""What a configuration file can say of alerts: how rules are set, and where alerts are told.

Silences are not among it: they are of the moment, and end by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from monitoring.admin.channels import EMAIL, ROBOT, WEBHOOK, place_of
from monitoring.admin.needs import fixed_fields
from monitoring.alerting import rules
from monitoring.configuration.kinds import Kind, register
from monitoring.models import AlertChannel, AlertRule


def _rules() -> Iterable[AlertRule]:
    rules.ensure_rows()
    return AlertRule.objects.all()


def _is_set(row: AlertRule) -> bool:
    return not row.is_enabled or row.threshold is not None or row.for_s is not None or bool(row.severity)


def _address_of(kind: str) -> Callable[[AlertChannel], str]:
    return lambda channel: place_of(channel)[0] if channel.kind == kind else ""


register(
    Kind(
        "alert_rules",
        AlertRule,
        key=("name",),
        fields=("is_enabled", "threshold", "for_s", "severity"),
        rows=_rules,
        fixed=fixed_fields,
        is_notable=_is_set,
        can_be_made=False,
        can_be_pruned=False,
    ),
    Kind(
        "alert_channels",
        AlertChannel,
        key=("name",),
        fields=(
            "kind",
            "robot",
            "emails",
            "url",
            "secret",
            "least_severity",
            "interval_s",
            "remind_after_h",
            "is_enabled",
        ),
        refers={"robot": "group_robots"},
        secrets=("url", "secret"),
        read={
            "robot": _address_of(ROBOT),
            "emails": _address_of(EMAIL),
            "url": _address_of(WEBHOOK),
            "secret": lambda channel: channel.place()[1],
        },
    ),
)
