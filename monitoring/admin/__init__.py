"""The admin's base classes for all apps; and the pages of the audit log, of its proof, and of alerts."""

from monitoring.admin.base import AuditedModelAdmin, ReadOnlyModelAdmin
from monitoring.admin.channels import AlertChannelAdmin, AlertNoticeAdmin
from monitoring.admin.log import AuditLogAdmin
from monitoring.admin.needs import AlertAdmin, AlertRuleAdmin, SilenceAdmin

__all__ = [
    "AlertAdmin",
    "AlertChannelAdmin",
    "AlertNoticeAdmin",
    "AlertRuleAdmin",
    "AuditLogAdmin",
    "AuditedModelAdmin",
    "ReadOnlyModelAdmin",
    "SilenceAdmin",
]
