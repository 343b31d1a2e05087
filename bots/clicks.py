"""Pressed buttons and thumbs: what a person does to an answer without writing.

Only answers of the credential by which the click came can be meant; everything else is told "unknown" and changes
nothing.
"""

from __future__ import annotations

from django.utils import timezone
from django.utils.translation import gettext as _

from bots import buttons, turns
from bots.models import DeliveryStep, Endpoint, Feedback, Message
from bots.models.conversation import MessageQuerySet
from integrations.values import CardAction, Reaction, Toast, Vote


def press(endpoint: Endpoint, action: CardAction) -> Toast:
    """Do what a pressed button asks, and say what came of it. Repeats change nothing."""
    pressed = buttons.read(action.value) if action.value else None
    reply = _of(endpoint).filter(pk=pressed.reply_id).first() if pressed else _by_card(endpoint, action)
    button = pressed.button if pressed else action.button
    if reply is None or not button or not action.user_id:
        return Toast(_("This button is no longer valid."), "warning")
    return _stop(reply, action.user_id) if button == "stop" else _vote(reply, action.user_id, button)


def react(endpoint: Endpoint, reaction: Reaction) -> None:
    """A thumb under an answer is feedback; taking it away takes the feedback back."""
    reply = by_remote_id(endpoint, reaction.message_id)
    if reply is None or not reaction.user_id:
        return
    if reaction.is_removed:
        given = Feedback.objects.filter(reply=reply, user_id=reaction.user_id[:200], vote=reaction.vote)
        given.delete()
    else:
        _note(reply, reaction.user_id, reaction.vote)


def by_remote_id(endpoint: Endpoint, remote_id: str) -> Message | None:
    """The answer that the platform knows by this id: of a message, or of a card."""
    if not remote_id:
        return None
    steps = DeliveryStep.objects.filter(remote_id=remote_id[:200], message__in=_of(endpoint))
    step = steps.select_related("message__conversation", "message__reply_to").first()
    return step.message if step else None


def _by_card(endpoint: Endpoint, action: CardAction) -> Message | None:
    return None if action.value else by_remote_id(endpoint, action.card_id)


def _of(endpoint: Endpoint) -> MessageQuerySet:
    """What the bot said through this credential, also through an earlier endpoint of it."""
    said = Message.objects.filter(role=Message.Role.ASSISTANT, is_current=True)
    said = said.filter(conversation__endpoint__credential_id=endpoint.credential_id)
    return said.select_related("conversation", "reply_to")


def _stop(reply: Message, user_id: str) -> Toast:
    question = reply.reply_to
    if question is None:
        return Toast(_("There is nothing to stop."), "info")
    if reply.conversation.chat_type != "direct" and question.sender_id != user_id:
        return Toast(_("Only who asked can stop this answer."), "warning")
    unfinished = Message.objects.filter(pk=question.pk).exclude(status=Message.Status.ANSWERED)
    if turns.request_cancel(unfinished):
        return Toast(_("Stopped."))
    return Toast(_("The answer is complete already."), "info")


def _vote(reply: Message, user_id: str, vote: Vote) -> Toast:
    _note(reply, user_id, vote)
    return Toast(_("Thank you for your feedback."), vote=vote)


def _note(reply: Message, user_id: str, vote: Vote) -> None:
    """One vote for each person: the last one counts."""
    changed = {"vote": vote, "updated_at": timezone.now()}
    Feedback.objects.update_or_create(reply=reply, user_id=user_id[:200], defaults=changed)
