"""Which scope a view wants. A view that names none is closed to everybody (rule A7)."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from monitoring import audit

logger = logging.getLogger(__name__)


class HasScopes(BasePermission):
    """Lets a caller in whose scopes hold the one that the view names.

    ``required_scopes`` on the view maps an action's name, or else ``read`` and ``write``, to a scope:
    ``{"read": "bots:read", "write": "bots:write", "ask": "chat"}``.
    """

    message = ""

    def has_permission(self, request: Request, view: Any) -> bool:
        if not (request.user and request.user.is_authenticated):
            return False
        if request.method not in view.allowed_methods:
            return True  # the view answers 405, which tells more than 403
        scope = required_scope(view, request.method or "")
        if scope is not None and scope in getattr(request.auth, "scopes", ()):
            return True
        self.message = _refuse(request, view, scope)
        return False


def required_scope(view: Any, method: str) -> str | None:
    """The scope that a call of ``method`` needs; None when the view names none, and so nobody may call it."""
    declared: Mapping[str, str] = getattr(view, "required_scopes", None) or {}
    action = getattr(view, "action", None)
    if isinstance(action, str) and action in declared:
        return declared[action]
    if method == "OPTIONS" and "read" not in declared:
        return declared.get("write")  # an address that nobody reads still tells its callers how to write
    return declared.get("read" if method in SAFE_METHODS else "write")


def _refuse(request: Request, view: Any, scope: str | None) -> str:
    if scope is None:
        logger.error("view without required_scopes is closed", extra={"view": type(view).__name__})
        return _("Nobody may do this.")
    where = f"{request.method} {type(view).__name__}"
    audit.record_refusal("access.refused", target_label=where, reason=f"scope {scope} is missing")
    return _("This needs the scope %(scope)s, which your account or key does not have.") % {"scope": scope}
