"""``people/forget/``: a person's words, files and names are deleted from all conversations."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import APIException, PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from bots import forgetting
from bots.forgetting import StillAnswering
from bots.models import Conversation


class StillWaiting(APIException):
    status_code = 409
    default_code = "conflict"
    default_detail = _("Messages of this person are being answered. Try again in a minute.")


class PersonSerializer(serializers.Serializer[Any]):
    platform = serializers.ChoiceField(choices=Conversation.Platform.choices)
    user_id = serializers.CharField(max_length=200, help_text="As `sender_id` of messages: the platform's, or yours.")


class ForgottenSerializer(serializers.Serializer[Any]):
    messages = serializers.IntegerField()
    answers = serializers.IntegerField()
    files = serializers.IntegerField()
    conversations = serializers.IntegerField()
    votes = serializers.IntegerField()
    quotations = serializers.IntegerField()
    remains = serializers.ListField(child=serializers.CharField(), help_text="What is not forgotten, in words.")


class ForgetView(APIView):
    """Forgets a person; cannot be undone. Doing it twice does no harm."""

    required_scopes = {"write": "messages:write"}

    @extend_schema(
        summary="Forget a person",
        request=PersonSerializer,
        responses={200: ForgottenSerializer, 409: OpenApiResponse(description="Is being answered right now.")},
    )
    def post(self, request: Request) -> Response:
        given = PersonSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        person = given.validated_data
        if forgetting.is_known_to_others(person["platform"], person["user_id"], request.auth):
            raise PermissionDenied(_("This person also wrote to another team's bots: ask somebody who sees all teams."))
        try:
            done = forgetting.forget(person["platform"], person["user_id"])
        except StillAnswering as error:
            raise StillWaiting(str(error)) from None
        return Response(ForgottenSerializer({**asdict(done), "remains": forgetting.remains()}).data)
