"""A question -> the bot's text: history, prompt, engine, and what to say when there is no answer."""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

from django.db.models import Q
from django.utils import timezone

from bots import choice, fallback, material, prompt, screening, together, tools
from bots.answers import Answer
from bots.errors import LeaseLost
from bots.leases import Lease
from bots.material import Material
from bots.models import Bot, Message
from bots.moderation import Cut, NotJudged
from bots.screening import Blocked, Outgoing
from bots.sentences import say
from bots.text import storable
from inference import correcting
from inference.base import ChatMessage, GenRequest, Reply, Result, Usage
from inference.errors import BadRequest, InferenceError, QueueFull, ShuttingDown
from inference.models import LanguageModel
from inference.worker import engine_of
from monitoring import metrics, tracing

logger = logging.getLogger(__name__)
Status = Message.Status
LONGEST_ANSWER_S = 600.0
MOST_FETCHES = 4  # attempts to get what came with a question, two counted a try; then the person is told


def answer(question: Message, lease: Lease, show: Callable[[str], None]) -> Answer:
    """Ask the model in use; ``show`` gets the whole text so far at each piece.

    Raises QueueFull, LeaseLost, and PlatformError where what came with the question cannot be fetched just now.
    """
    bot, model = question.conversation.bot, choice.in_use(question.conversation)
    asked = together.group_of(question)
    came_with = material.gather(asked, model, is_last_try=question.attempts > MOST_FETCHES)
    lead = "".join(f"{note}\n\n" for note in came_with.notes)
    if lead and not (came_with.is_of_use or any(one.text.strip() for one in asked)):
        return Answer(lead.strip(), "stop")
    lease.check()
    screen = screening.of(question, lease)
    if refused := screen.refusal([came_with.text, *_said(question, asked)]):
        return refused

    def ask(asked_model: LanguageModel, request: GenRequest) -> Answer:
        out = screen.outgoing(lambda text: show(lead + text))
        with tracing.span("model", "client", model=asked_model.name, engine=asked_model.engine):
            asked_answer = _ask(asked_model, _traced(request), question, lease, out)
            _note_in_trace(asked_answer)
        return asked_answer

    with tracing.span("prompt"):
        request = screen.request(request_for(question, bot, asked, came_with))
        tracing.note(messages=len(request.messages))
    answered = fallback.ask_in_turn(bot, model, request, ask)
    answered.text = lead + answered.text
    return answered


def _traced(request: GenRequest) -> GenRequest:
    """With what a service needs to continue our trace, where there is one."""
    header = tracing.traceparent()
    return replace(request, traceparent=header) if header else request


def _note_in_trace(answer: Answer) -> None:
    first = {"first_token_ms": answer.timings["first_token"]} if "first_token" in answer.timings else {}
    used = answer.usage
    tokens = {"prompt_tokens": used.prompt_tokens, "completion_tokens": used.completion_tokens}
    tracing.note(finish=answer.finish, **first, **tokens)
    if answer.error:
        tracing.failed(answer.finish)


def _said(question: Message, asked: list[Message]) -> list[str]:
    """The words that are new to the bot, also those of a caller who brings the whole conversation along."""
    brought = question.details.get("request", {}).get("messages", ())
    return [*(message.text for message in asked), *(m["text"] for m in brought if m["role"] != "assistant")]


def _ask(model: LanguageModel, request: GenRequest, question: Message, lease: Lease, out: Outgoing) -> Answer:
    started = time.monotonic()
    try:
        reply = correcting.submit(engine_of(model), request)
    except QueueFull:
        raise
    except ShuttingDown as error:
        raise LeaseLost(str(error)) from None  # the question waits for another worker
    except InferenceError as error:
        return failed(model, str(error), is_our_fault=not isinstance(error, BadRequest))
    timings: dict[str, int] = {}
    try:
        _written(reply, question, lease, out, timings, started)
    except Blocked as blocked:
        reply.cancel()
        return Answer(blocked.text, "filtered", reply.result().usage, timings=timings, model=model.name)
    lease.check()
    result = reply.result()
    timings["generate"] = _ms_since(started)
    _measure(model, timings, result.usage)
    if result.finish == "error":
        is_ours = not result.is_too_long
        return failed(model, result.error, is_our_fault=is_ours, begun=out.seen, usage=result.usage)
    answer = Answer(result.text, result.finish, result.usage, timings=timings, model=model.name)
    if problem := _settled_calls(answer, result, request, question):
        return failed(model, problem, begun=out.seen, usage=result.usage)
    return _judged(answer, out, question.conversation.bot)


def _written(
    reply: Reply, question: Message, lease: Lease, out: Outgoing, timings: dict[str, int], started: float
) -> None:
    """Read the answer and show it while it grows. Raises Blocked."""
    text = ""
    with lease.working_on(question.pk, reply.cancel):
        for delta in reply:
            lease.check()
            if delta.kind != "answer" or not delta.text:
                continue
            if not text:
                timings["first_token"] = _ms_since(started)
                tracing.event("first token")
            text += storable(delta.text)
            out.write(text)


def _settled_calls(answer: Answer, result: Result, request: GenRequest, question: Message) -> str:
    """Returns why the calls of a whole answer cannot be passed on, if they cannot."""
    if not result.tool_calls or result.finish in ("cancelled", "shutdown"):
        return ""
    return tools.settle(answer, result.tool_calls, request, question)


def _judged(answer: Answer, out: Outgoing, bot: Bot) -> Answer:
    """The complete answer as it may be said."""
    calls, answer.tool_calls = answer.tool_calls, ()
    try:
        answer.text = _signed(out.final(answer.text), bot)
        answer.tool_calls = tuple(replace(one, arguments=out.arguments(one.arguments)) for one in calls)
    except Blocked as blocked:
        answer.text, answer.finish = blocked.text, "filtered"
    except NotJudged as error:
        answer.text, answer.finish, answer.error, answer.is_final = say("not_judged"), "error", str(error), True
    except Cut:
        answer.text, answer.finish = "", "cancelled"
    return answer


def request_for(question: Message, bot: Bot, asked: list[Message], came_with: Material) -> GenRequest:
    wanted = question.details.get("request", {})
    if "messages" in wanted:
        given = [
            ChatMessage(m["role"], m["text"], _images(m), tools.read(m), m.get("call_id", ""))
            for m in wanted["messages"]
        ]
        messages = prompt.from_client(bot.system_prompt, given)
    else:
        words = "\n\n".join(filter(None, [came_with.text, *(message.text for message in asked)]))
        words = words or "[Only this picture came, without words.]"  # some services refuse an empty text
        messages = prompt.build(bot.system_prompt, history(question, bot), words, came_with.images)
    return GenRequest(
        id=f"{question.pk}.{question.attempts}",
        messages=messages,
        sampling=prompt.sampling(wanted, temperature=bot.temperature, top_p=bot.top_p, max_tokens=bot.max_tokens),
        deadline_s=LONGEST_ANSWER_S,
        cache_scope=f"{bot.pk}:{question.conversation_id}",
        tools=tuple(wanted.get("tools", ())),
        tool_choice=wanted.get("tool_choice"),
    )


def _images(message: dict[str, Any]) -> tuple[bytes, ...]:
    return tuple(base64.b64decode(image) for image in message.get("images", ()))


def history(question: Message, bot: Bot) -> list[prompt.Turn]:
    """The last remembered messages before this question, each answer right after what it answers."""
    newest, replies = _remembered(question, bot)
    newest.reverse()
    came_with = material.remembered(newest, question.conversation)
    turns = []
    for message in newest:
        extra = came_with.get(message.pk, material.NOTHING)
        words = "\n\n".join(filter(None, [extra.text, message.text]))
        turns.append(prompt.Turn(is_bot=False, text=words, images=extra.images))
        if message.pk in replies:
            turns.append(prompt.Turn(is_bot=True, text=_unsigned(replies[message.pk].text, bot)))
    return turns[-bot.history_messages :] if bot.history_messages else []


def _remembered(question: Message, bot: Bot) -> tuple[list[Message], dict[UUID | None, Message]]:
    """The newest questions before this one, newest first, and their answers by what they answer: one look for both.

    An answer stands behind its question, perhaps behind the present one: people write while the bot still answers.
    """
    before = Q(received_at__lt=question.received_at) | Q(received_at=question.received_at, pk__lt=question.pk)
    is_question, is_answer = Q(before, role=Message.Role.USER), Q(role=Message.Role.ASSISTANT, reply_to__isnull=False)
    rows = question.conversation.messages.filter(
        is_question | is_answer, is_current=True, status__in=(Status.DELIVERED, Status.UNCONFIRMED)
    )
    if question.conversation.context_started_at:
        rows = rows.filter(received_at__gte=question.conversation.context_started_at)
    rows = rows.only("conversation_id", "role", "text", "details", "reply_to").order_by("-received_at", "-pk")
    found = list(rows[: 2 * bot.history_messages])
    asked = [row for row in found if row.role == Message.Role.USER and _is_remembered(row)][: bot.history_messages]
    return asked, {row.reply_to_id: row for row in found}


def _is_remembered(message: Message) -> bool:
    """Not what was said to the machinery, nor by it, nor by who may not talk to the bot, nor what may not be said."""
    details = message.details
    return details.get("kind") not in ("command", "busy") and not (
        details.get("is_refused") or details.get("is_blocked")
    )


def failed(
    model: LanguageModel, reason: str, *, is_our_fault: bool = True, begun: str = "", usage: Usage | None = None
) -> Answer:
    """A polite word instead of an answer; the reason stays inside."""
    logger.warning("the model did not answer", extra={"model": model.name, "reason": reason})
    apology = say("model_failed" if is_our_fault else "bad_question")
    has_begun = bool(begun.strip())
    text = f"{begun}\n\n{apology}" if has_begun else apology
    why = reason or "the model did not answer"
    return Answer(text, "error", usage or Usage(), error=why, model=model.name, has_begun=has_begun)


def _signed(text: str, bot: Bot) -> str:
    return f"{text}\n\n{bot.ai_notice}" if bot.ai_notice and text else text


def _unsigned(text: str, bot: Bot) -> str:
    return text.removesuffix(f"\n\n{bot.ai_notice}") if bot.ai_notice else text


def _ms_since(started: float) -> int:
    return round((time.monotonic() - started) * 1000)


def _measure(model: LanguageModel, timings: dict[str, int], usage: Usage) -> None:
    metrics.inference(
        model.name,
        first_token_s=timings["first_token"] / 1000 if "first_token" in timings else None,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
    )


def queue_ms(question: Message) -> int:
    return round((timezone.now() - question.received_at).total_seconds() * 1000)
