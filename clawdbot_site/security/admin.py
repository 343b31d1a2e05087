"""The admin of accounts, teams, API clients and (to look at) signing keys; the login page's form."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from unfold.forms import AdminPasswordChangeForm, AuthenticationForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from clawdbot_site.security import network_admin as network_admin  # the page of network rules
from clawdbot_site.security import roles, second_factor
from clawdbot_site.security.models import ApiClient, SigningKey, Team, User
from clawdbot_site.security.models.clients import Scope
from monitoring import audit
from monitoring.admin import AuditedModelAdmin, ReadOnlyModelAdmin

ROLE_NAMES = frozenset(roles.Role.values)


class LoginForm(AuthenticationForm):
    """Says when guessing is over for now, instead of calling a right password wrong."""

    def get_invalid_login_error(self) -> ValidationError:
        if getattr(self.request, "sign_in_retry_after_s", None):
            return ValidationError(_("Too many attempts to sign in. Wait five minutes, then try again."), code="wait")
        error: ValidationError = super().get_invalid_login_error()
        return error


admin.site.login_form = LoginForm


# -- accounts --


class AccountForm(UserChangeForm):
    def clean_groups(self) -> Any:
        groups = self.cleaned_data["groups"]
        roles.check_duties(group.name for group in groups)
        return groups


class OwnersOnly(AuditedModelAdmin):
    """Rights are given by owners; who manages accounts cannot make an owner, nor become one."""

    def is_owner(self, request: HttpRequest) -> bool:
        return roles.is_owner(request.user)


@admin.register(User)
class UserAdmin(DjangoUserAdmin, OwnersOnly):
    form = AccountForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = [
        "username",
        "full_name",
        "email",
        "roles",
        "has_second_factor",
        "is_active",
        "is_staff",
        "is_superuser",
        "last_login",
    ]
    list_filter = ["is_active", "is_staff", "is_superuser", "groups", "teams"]
    search_fields = ["username", "first_name", "last_name", "email"]
    ordering = ["username"]
    readonly_fields = ["last_login", "date_joined"]
    actions = ["reset_second_factor", "sign_out"]

    @admin.display(description=_("second factor"), boolean=True)
    def has_second_factor(self, user: User) -> bool:
        factor = getattr(user, "second_factor", None)
        return factor is not None and factor.confirmed_at is not None

    @admin.display(description=_("name"))
    def full_name(self, user: User) -> str:
        return user.get_full_name()

    @admin.display(description=_("roles"))
    def roles(self, user: User) -> str:
        return ", ".join(group.name for group in user.groups.all())

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:
        with audit.following(User, unquote(id)):
            response: HttpResponse = super().user_change_password(request, id, form_url)
        return response

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        rows: QuerySet[User] = super().get_queryset(request).select_related("second_factor")
        return rows.defer("second_factor__secret", "second_factor__pending_secret").prefetch_related("groups")

    def has_owner_permission(self, request: HttpRequest) -> bool:
        return self.is_owner(request)

    @admin.action(description=_("Reset the second factor (lost phone)"), permissions=["owner"])
    def reset_second_factor(self, request: HttpRequest, users: QuerySet[User]) -> None:
        reset = [user for user in users if second_factor.remove(user, reason="by an owner")]
        text = ngettext("%(count)d second factor was reset.", "%(count)d second factors were reset.", len(reset))
        messages.success(request, text % {"count": len(reset)})

    @admin.action(description=_("Sign out everywhere"), permissions=["owner"])
    def sign_out(self, request: HttpRequest, users: QuerySet[User]) -> None:
        for user in users:
            second_factor.sign_out_everywhere(user, reason="by an owner")
        messages.success(request, _("Their sessions and refresh tokens have ended."))

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> list[str]:
        fields = list(super().get_readonly_fields(request, obj))
        return fields if self.is_owner(request) else [*fields, "is_superuser", "groups", "user_permissions"]

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return bool(super().has_change_permission(request, obj)) and self._may_touch(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return bool(super().has_delete_permission(request, obj)) and self._may_touch(request, obj)

    def _may_touch(self, request: HttpRequest, obj: User | None) -> bool:
        return obj is None or self.is_owner(request) or not roles.is_powerful(obj)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Deleting a selection does not ask for each account whether it may be touched."""
        actions: dict[str, Any] = super().get_actions(request)
        if not self.is_owner(request):
            actions.pop("delete_selected", None)
        return actions


admin.site.unregister(Group)


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, OwnersOnly):  # type: ignore[misc]  # two admin bases, one untyped
    """The roles are to be read; further groups can be made by owners."""

    list_display = ["name", "is_role", "member_count"]
    search_fields = ["name"]

    @admin.display(description=_("role"), boolean=True)
    def is_role(self, group: Group) -> bool:
        return group.name in ROLE_NAMES

    @admin.display(description=_("accounts"))
    def member_count(self, group: Group) -> int:
        return len(group.user_set.all())

    def get_queryset(self, request: HttpRequest) -> QuerySet[Group]:
        return super().get_queryset(request).prefetch_related("user_set")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.is_owner(request)

    def has_change_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return self.is_owner(request) and (obj is None or obj.name not in ROLE_NAMES)

    def has_delete_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return self.has_change_permission(request, obj)


@admin.register(Team)
class TeamAdmin(AuditedModelAdmin):
    list_display = ["name", "member_count", "created_at"]
    list_filter = ["created_at"]
    search_fields = ["name", "members__username"]
    autocomplete_fields = ["members"]

    @admin.display(description=_("members"))
    def member_count(self, team: Team) -> int:
        return len(team.members.all())

    def get_queryset(self, request: HttpRequest) -> QuerySet[Team]:
        return super().get_queryset(request).prefetch_related("members")


# -- programs --


class ApiClientForm(forms.ModelForm):
    scopes = forms.MultipleChoiceField(
        label=_("scopes"), choices=Scope.choices, widget=UnfoldAdminCheckboxSelectMultipleWidget
    )
    own_scopes: frozenset[str] = frozenset()  # set by the admin for each request

    class Meta:
        model = ApiClient
        fields = ["name", "scopes", "team", "networks", "expiry_date", "is_active", "revoked"]

    def clean_scopes(self) -> list[str]:
        given = self.cleaned_data["scopes"]
        if foreign := sorted(set(given) - self.own_scopes - set(self.instance.scopes or ())):
            text = _("You cannot give what you do not have: %(scopes)s.")
            raise ValidationError(text, params={"scopes": ", ".join(foreign)})
        return sorted(given)


@admin.register(ApiClient)
class ApiClientAdmin(AuditedModelAdmin):
    """The key is shown once, after saving. Clients are revoked, not deleted."""

    form = ApiClientForm
    list_display = [
        "name",
        "prefix",
        "scope_list",
        "team",
        "usable",
        "expiry_date",
        "last_used_at",
        "created_by",
        "created",
    ]
    list_filter = ["is_active", "revoked", "team", "expiry_date", "created"]
    search_fields = ["name", "prefix", "created_by__username"]
    list_select_related = ["created_by", "team"]
    readonly_fields = ["prefix", "last_used_at", "created", "created_by"]
    actions = ["revoke"]
    fieldsets = [
        (None, {"fields": ["name", "scopes", "team", "networks", "expiry_date", "is_active", "revoked"]}),
        (_("Use"), {"fields": ["prefix", "last_used_at", "created", "created_by"]}),
    ]

    @admin.display(description=_("scopes"))
    def scope_list(self, client: ApiClient) -> str:
        return ", ".join(client.scopes)

    @admin.display(description=_("usable"), boolean=True)
    def usable(self, client: ApiClient) -> bool:
        return client.is_usable

    def get_form(self, request: HttpRequest, obj: ApiClient | None = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change, **kwargs)
        own = roles.scopes_of(request.user) if isinstance(request.user, User) else frozenset()
        return type(form.__name__, (form,), {"own_scopes": own})

    def get_readonly_fields(self, request: HttpRequest, obj: ApiClient | None = None) -> list[str]:
        fields = list(super().get_readonly_fields(request, obj))
        return [*fields, "revoked"] if obj is None or obj.revoked else fields

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if change:
            super().save_model(request, obj, form, change)
            return
        obj.created_by = request.user if isinstance(request.user, User) else None
        key = ApiClient.objects.assign_key(obj)
        super().save_model(request, obj, form, change)
        text = _("The key of {name}, shown only now: {key}")
        messages.warning(request, format_html(str(text), name=obj.name, key=key))

    def has_delete_permission(self, request: HttpRequest, obj: ApiClient | None = None) -> bool:
        return False

    @admin.action(description=_("Revoke for good"), permissions=["change"])
    def revoke(self, request: HttpRequest, clients: QuerySet[ApiClient]) -> None:
        for client in clients.filter(revoked=False):
            client.revoked = True
            client.save(update_fields=["revoked"])


@admin.register(SigningKey)
class SigningKeyAdmin(ReadOnlyModelAdmin):
    list_display = ["kid", "state", "created_at", "not_after"]
    list_filter = ["state", "created_at"]
    search_fields = ["kid"]
    fields = ["kid", "state", "created_at", "not_after", "public_jwk"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[SigningKey]:
        """The private half is not even read."""
        return super().get_queryset(request).defer("private_pem")
