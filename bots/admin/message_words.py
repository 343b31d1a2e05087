"""What lists and pages say of a message: its state's colour, who said it, when, and what went wrong."""

from __future__ import annotations

from datetime import datetime

from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from bots.models import Message

Status = Message.Status
COLOURS = {
    Status.RECEIVED: "info",
    Status.ANSWERING: "info",
    Status.ANSWERED: "info",
    Status.DELIVERED: "success",
    Status.UNCONFIRMED: "warning",
    Status.FAILED: "danger",
    Status.CANCELLED: "default",
    Status.IGNORED: "default",
}


def moment(at: datetime) -> SafeString:
    """A time as lists show it: short, sortable by eye, in one line."""
    return format_html('<span class="cb-moment">{}</span>', f"{timezone.localtime(at):%Y-%m-%d %H:%M}")


def said_by(message: Message) -> str:
    if message.role == Message.Role.ASSISTANT:
        return str(_("bot"))
    return message.conversation.user_name or message.sender_id or str(_("person"))


def error_of(message: Message) -> str:
    """Why it failed, or what last went wrong on its way; a reply tells its question's reason."""
    if message.error:
        return message.error
    if message.status in Message.DEAD and message.reply_to:
        return message.reply_to.error
    return str(message.details.get("last_trouble", "")) if message.status in Message.WAITING else ""


def reason_of(letter: Message) -> str:
    """As ``error_of``, never empty."""
    if reason := error_of(letter):
        return reason
    if letter.status == Status.UNCONFIRMED:
        return str(_("The platform did not say whether it arrived."))
    return str(_("No reason was stored."))
