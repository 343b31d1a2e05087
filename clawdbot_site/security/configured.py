"""What a configuration file can say of people, teams and networks.

Passwords and second factors are people's own, and keys of API clients are shown once, to who makes them: neither stands
in a file. Accounts are never deleted by one, only made inactive.
"""

from __future__ import annotations

from collections.abc import Iterable

from django.contrib.auth.models import Group

from clawdbot_site.security.ip_rules import normalise
from clawdbot_site.security.models import IPRule, Team, User
from monitoring.configuration.kinds import Kind, register


def _somebody_new() -> User:
    """Signs in once an owner has set a password, or by the company's own sign-in."""
    user = User()
    user.set_unusable_password()
    return user


def _rules() -> Iterable[IPRule]:
    """Those that people set, for all endpoints; not the blocks that ClawdBot itself sets and lifts."""
    return IPRule.objects.filter(is_automatic=False, endpoint_id=None).order_by("created_at", "id")


register(
    Kind("groups", Group, key=("name",), can_be_made=False),
    Kind(
        "users",
        User,
        key=("username",),
        fields=("email", "first_name", "last_name", "is_active", "is_staff", "is_superuser", "groups"),
        refers={"groups": "groups"},
        new=_somebody_new,
        can_be_pruned=False,
    ),
    Kind("teams", Team, key=("name",), fields=("members",), refers={"members": "users"}),
    Kind(
        "ip_rules",
        IPRule,
        key=("action", "network", "scope"),
        fields=("expires_at", "is_dry_run", "note"),
        rows=_rules,
        spell={"network": normalise},
        answers={"confirm_lockout": True},  # nobody's own address is at stake on the server itself
    ),
)
