"""The head of a message's page: its state, what can be done about it and what that would do; and its delivery."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from bots import retrying
from bots.admin import acting
from bots.admin.message_words import error_of, reason_of
from bots.models import DeliveryStep, Message

Status = Message.Status


def panel(request: HttpRequest, message: Message) -> dict[str, Any]:
    """The template's names. What is done is done to the question, also from its reply's page."""
    row = message.reply_to or message
    is_dead = message.status in Message.DEAD and row.status in Message.DEAD
    return {
        "trouble": reason_of(message) if is_dead else error_of(message),
        "is_dead": is_dead,
        "discarded_at": row.discarded_at if is_dead else None,
        "plan": plan_of(row) if is_dead else "",
        "may_show_twice": is_dead and _may_show_twice(row),
        "retry_text": _("Send again") if row.status == Status.UNCONFIRMED else _("Try again"),
        "may_act": acting.may_act(request),
    }


def plan_of(row: Message) -> Any:
    """What trying again would do, in words."""
    if row.role == Message.Role.ASSISTANT:
        return _("Trying again sends this message again.")
    if retrying.stored_answer(row):
        return _("Trying again sends the stored answer again. The model is not asked.")
    reply = retrying.current_reply(row)
    if reply and reply.answered_at:
        return _("Trying again asks the model again. The apology that was sent stays in the chat.")
    return _("Trying again asks the model again.")


def delivery_steps(message: Message) -> SafeString | str:
    """Each call that could make something visible, with what came of it."""
    steps = list(_steps(message))
    return render_to_string("bots/delivery_steps.html", {"steps": steps}) if steps else "–"


def _may_show_twice(row: Message) -> bool:
    if retrying.stored_answer(row) is None:
        return False
    return row.status == Status.UNCONFIRMED or _steps(row).filter(state=DeliveryStep.State.INTENDED).exists()


def _steps(message: Message) -> Any:
    """Of a question, those of its current answer."""
    answers_this = {"message__reply_to": message, "message__is_current": True}
    is_question = message.role == Message.Role.USER
    return DeliveryStep.objects.filter(**(answers_this if is_question else {"message": message}))
