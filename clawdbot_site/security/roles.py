"""Who may do what: the roles, their permissions in the admin, their scopes in the API. One table each, no exceptions.

A role is a Django group of the same name. Superusers and owners may do everything. The rights of these groups are
written again after each migration, so a change made by hand does not last: make a group of your own for that.

All active staff may chat, whatever their role; an account that is neither staff nor in a role has no scope at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from django.apps import apps
from django.conf import settings
from django.contrib.auth.management import create_permissions
from django.contrib.auth.models import Group, Permission
from django.core.exceptions import ValidationError
from django.db import models
from django.utils.translation import gettext_lazy as _

from clawdbot_site.security.models.clients import ALL_SCOPES, Scope
from clawdbot_site.security.models.user import User


class Role(models.TextChoices):
    OWNER = "owner", _("owner")
    OPERATOR = "operator", _("operator")
    SECURITY = "security", _("security")
    AUDITOR = "auditor", _("auditor")
    SERVICE = "service", _("service")


READ_SCOPES: Final = frozenset({Scope.BOTS_READ.value, Scope.MESSAGES_READ.value, Scope.AUDIT_READ.value})
SCOPES: Final[Mapping[str, frozenset[str]]] = {
    Role.OWNER: ALL_SCOPES,
    Role.OPERATOR: frozenset({"bots:read", "bots:write", "messages:read", "messages:write", "chat"}),
    Role.SECURITY: frozenset({"admin", "bots:read"}),
    Role.AUDITOR: READ_SCOPES,
    Role.SERVICE: frozenset({"bots:read", "chat"}),
}
STAFF_SCOPES: Final = frozenset({"chat"})

READ: Final = ("view",)
WRITE: Final = ("view", "add", "change", "delete")
# app label -> actions; "*" stands for every model of the app, "app.model" for one.
PERMISSIONS: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    Role.OWNER: {
        "auth": WRITE,
        "security": WRITE,
        "monitoring": WRITE,
        "inference": WRITE,
        "integrations": WRITE,
        "bots": WRITE,
        "django_celery_beat": WRITE,
    },
    Role.OPERATOR: {
        "inference": WRITE,
        "integrations": WRITE,
        "bots": WRITE,
        "monitoring.alert": (*READ, "change"),
        "monitoring.alertrule": (*READ, "change"),
        "monitoring.silence": WRITE,
        "monitoring.alertchannel": WRITE,
        "monitoring.alertnotice": READ,
        "django_celery_beat": READ,
    },
    Role.SECURITY: {
        "auth.group": READ,
        "security": WRITE,
        "bots": READ,
        "integrations": READ,
        "inference": READ,
        "monitoring.alert": (*READ, "change"),
        "monitoring.alertrule": READ,
        "monitoring.silence": WRITE,
        "monitoring.alertchannel": READ,
        "monitoring.alertnotice": READ,
    },
    Role.AUDITOR: {
        "auth.group": READ,
        "security": READ,
        "monitoring": READ,
        "inference": READ,
        "integrations": READ,
        "bots": READ,
        "django_celery_beat": READ,
    },
    Role.SERVICE: {},
}
# Nobody changes these by hand, not even an owner.
READ_ONLY_MODELS: Final = frozenset(
    {
        "security.signingkey",
        "security.refreshtoken",
        "security.datakey",
        "monitoring.auditlog",
        "monitoring.auditseal",
        "monitoring.auditwaiting",
        "monitoring.auditcheckpoint",
        "monitoring.auditkey",
        "monitoring.auditsink",
        "monitoring.auditcursor",
        "monitoring.alertnotice",
        "monitoring.heartbeat",
        "monitoring.leader",
        "monitoring.rollup",
    }
)
SEPARATE_DUTIES: Final = frozenset({Role.OPERATOR.value, Role.SECURITY.value, Role.AUDITOR.value})


def scopes_of(user: User) -> frozenset[str]:
    """What a person may do through the API; nothing when the account is disabled."""
    if not user.is_active:
        return frozenset()
    if user.is_superuser:
        return ALL_SCOPES
    granted = [SCOPES[name] for name in roles_of(user)]
    return frozenset().union(*granted, STAFF_SCOPES if user.is_staff else ())


def roles_of(user: User) -> set[str]:
    return {name for name in user.groups.values_list("name", flat=True) if name in SCOPES}


def is_powerful(user: User) -> bool:
    """Whether the account is an owner's or a superuser's, active or not: only such may change it."""
    return user.is_superuser or Role.OWNER.value in roles_of(user)


def is_owner(user: object) -> bool:
    """Whether this is somebody who may set roles."""
    return isinstance(user, User) and user.is_active and is_powerful(user)


def check_duties(names: Iterable[str]) -> None:
    """Refuse two of operator, security and auditor in one account (rule A9). Raises ValidationError."""
    combined = sorted(SEPARATE_DUTIES & set(names))
    if len(combined) > 1 and not getattr(settings, "COMBINE_DUTIES", False):
        raise ValidationError(
            _("One account cannot hold %(roles)s together: whoever acts must not be the one who checks."),
            code="duties",
            params={"roles": ", ".join(combined)},
        )


def check_group_change(
    sender: object, instance: Any, action: str, reverse: bool, pk_set: set[Any] | None, **kwargs: object
) -> None:
    """Receiver of m2m_changed: the duties hold however groups are given. Raises ValidationError."""
    if action != "pre_add":
        return
    if not reverse:
        check_duties({*roles_of(instance), *Group.objects.filter(pk__in=pk_set or ()).values_list("name", flat=True)})
        return
    for user in User.objects.filter(pk__in=pk_set or ()):
        check_duties({*roles_of(user), instance.name})


def ensure_groups() -> None:
    """Make the groups, and give each exactly the rights of the table, as far as the models exist yet."""
    everything = list(Permission.objects.select_related("content_type"))
    for role in Role.values:
        group, _made = Group.objects.get_or_create(name=role)
        group.permissions.set([one for one in everything if _may(role, one)])


def _may(role: str, permission: Permission) -> bool:
    table, kind = PERMISSIONS[role], permission.content_type
    action, _, model = permission.codename.partition("_")
    name = f"{kind.app_label}.{kind.model}"
    allowed = table.get(name, table.get(kind.app_label, ()))
    if name in READ_ONLY_MODELS:
        allowed = tuple(set(allowed) & set(READ))
    return action in allowed and model == kind.model


def ensure_groups_after_migrate(sender: object, using: str = "default", **kwargs: object) -> None:
    """Receiver of post_migrate, which comes once for each app: act at the last, when all permissions are there."""
    last = [config for config in apps.get_app_configs() if config.models_module][-1]
    if sender is last and using == "default":
        create_permissions(last, verbosity=0, using=using)
        ensure_groups()
