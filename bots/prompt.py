"""History -> prompt. Pure: text and turns in, ChatMessages out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from inference.base import ChatMessage, SamplingParams


@dataclass(frozen=True, slots=True)
class Turn:
    """One remembered message."""

    is_bot: bool
    text: str
    images: tuple[bytes, ...] = field(default=(), repr=False)

    def message(self) -> ChatMessage:
        return ChatMessage("assistant" if self.is_bot else "user", self.text, self.images)


def build(
    system_prompt: str, history: Sequence[Turn], question: str, images: tuple[bytes, ...] = ()
) -> tuple[ChatMessage, ...]:
    """The bot's rules first, then what was said, then the question. Roles alternate, starting with the person."""
    system = [ChatMessage("system", system_prompt)] if system_prompt.strip() else []
    turns = [turn.message() for turn in history if turn.text.strip() or turn.images]
    return (*system, *_alternating([*turns, ChatMessage("user", question, images)]))


def from_client(system_prompt: str, messages: Iterable[ChatMessage]) -> tuple[ChatMessage, ...]:
    """A caller's own history. Its system messages are instructions of a user's rank, never above the bot's."""
    system = [ChatMessage("system", system_prompt)] if system_prompt.strip() else []
    turns = [ChatMessage("user", m.text, m.images) if m.role == "system" else m for m in messages]
    return (*system, *_alternating(turns))


def _alternating(turns: Iterable[ChatMessage]) -> list[ChatMessage]:
    """Join neighbours of one role, but not calls of tools; drop answers that nobody asked for at the start."""
    joined: list[ChatMessage] = []
    for turn in turns:
        if joined and joined[-1].role == turn.role and not (joined[-1].calls or turn.calls or turn.call_id):
            last = joined.pop()
            joined.append(ChatMessage(turn.role, f"{last.text}\n\n{turn.text}", last.images + turn.images))
        elif joined or turn.role == "user":
            joined.append(turn)
    return joined


def sampling(wanted: dict[str, object], *, temperature: float, top_p: float, max_tokens: int) -> SamplingParams:
    """A caller's wishes, capped by the bot's values."""

    def number(name: str, cap: float) -> float:
        value = wanted.get(name)
        return min(float(value), cap) if isinstance(value, int | float) else cap

    stop = wanted.get("stop") or ()
    return SamplingParams(
        max_new_tokens=int(number("max_tokens", max_tokens)),
        temperature=number("temperature", temperature),
        top_p=number("top_p", top_p),
        seed=int(seed) if isinstance(seed := wanted.get("seed"), int) else None,
        stop=(stop,) if isinstance(stop, str) else tuple(map(str, stop if isinstance(stop, list) else ())),
    )
