"""What was done, what proves that nobody edited it, what needs a person, and what happened each minute. One file a
story."""

from monitoring.models.alerts import Alert, AlertRule, Severity, Silence
from monitoring.models.channels import AlertChannel, AlertNotice
from monitoring.models.guard import AppendOnlyError
from monitoring.models.log import AuditLog
from monitoring.models.rollups import Heartbeat, Leader, Rollup
from monitoring.models.seals import AuditCheckpoint, AuditCursor, AuditKey, AuditSeal, AuditSink, AuditWaiting

__all__ = [
    "Alert",
    "AlertChannel",
    "AlertNotice",
    "AlertRule",
    "AppendOnlyError",
    "AuditCheckpoint",
    "AuditCursor",
    "AuditKey",
    "AuditLog",
    "AuditSeal",
    "AuditSink",
    "AuditWaiting",
    "Heartbeat",
    "Leader",
    "Rollup",
    "Severity",
    "Silence",
]
