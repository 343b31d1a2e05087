"""An admin site and a REST resource built on monitoring's base classes, over Django's own groups."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth.models import Group, Permission
from django.db.models import QuerySet
from django.http import HttpRequest
from rest_framework import serializers
from unfold.sites import UnfoldAdminSite

from monitoring import api
from monitoring.admin import AuditedModelAdmin


class GroupAdmin(AuditedModelAdmin):
    list_display = ["id", "name"]
    list_editable = ["name"]
    actions = ["shout", "fail"]

    @admin.action(description="Shout")
    def shout(self, request: HttpRequest, groups: QuerySet[Group]) -> None:
        for group in groups:
            group.name = group.name.upper()
            group.save()

    @admin.action(description="Fail")
    def fail(self, request: HttpRequest, groups: QuerySet[Group]) -> None:
        groups.update(name="half done")
        raise RuntimeError("the action breaks")


audited_site = UnfoldAdminSite(name="audited")
audited_site.register(Group, GroupAdmin)


class GroupSerializer(serializers.ModelSerializer[Group]):
    permissions = serializers.PrimaryKeyRelatedField(many=True, queryset=Permission.objects.all(), required=False)

    class Meta:
        model = Group
        fields = ["id", "name", "permissions"]


class GroupViewSet(api.AuditedModelViewSet):
    queryset = Group.objects.all()
    serializer_class = GroupSerializer
    required_scopes = {"read": "admin", "write": "admin"}
    pagination_class: Any = None
