"""What was done, what proves that nobody edited it, and what needs a person. One file a story."""

from monitoring.models.alerts import Alert
from monitoring.models.guard import AppendOnlyError
from monitoring.models.log import AuditLog
from monitoring.models.seals import AuditCheckpoint, AuditCursor, AuditKey, AuditSeal, AuditSink, AuditWaiting

__all__ = [
    "Alert",
    "AppendOnlyError",
    "AuditCheckpoint",
    "AuditCursor",
    "AuditKey",
    "AuditLog",
    "AuditSeal",
    "AuditSink",
    "AuditWaiting",
]
