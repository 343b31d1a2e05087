"""``chats/``: the groups in which bots are, and how each behaves there."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from bots.api.changing import READ_AND_WRITE_BOTS, ResourceViewSet
from bots.api.visible import VisibleKey
from bots.models import Chat, Endpoint


class ChatSerializer(serializers.ModelSerializer[Chat]):
    endpoint = VisibleKey(queryset=Endpoint.objects.all())
    bot = serializers.SlugRelatedField[Any](source="endpoint.bot", slug_field="slug", read_only=True)

    class Meta:
        model = Chat
        fields = ["id", "endpoint", "bot", "chat_id", "name", "group_policy", "left_at", "created_at"]
        read_only_fields = ["left_at", "created_at"]


class ChatViewSet(ResourceViewSet):
    """Groups. An empty `group_policy` leaves it to the bot; `mention`, `all` and `silent` are the group's own."""

    queryset = Chat.objects.select_related("endpoint__bot")
    serializer_class = ChatSerializer
    required_scopes = READ_AND_WRITE_BOTS
    lookup_value_regex = "[0-9a-fA-F-]{32,36}"
    filterset_fields = {
        "endpoint": ["exact"],
        "endpoint__bot__slug": ["exact"],
        "chat_id": ["exact"],
        "group_policy": ["exact"],
    }
