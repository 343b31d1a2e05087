"""Text in, text out: the values and the interface that every engine shares. Plain Python, no Django.

Contract: every submitted request ends with exactly one final Delta (``finish`` set); a broken request never harms
another; a cancelled one stops within two steps of the model.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]
Finish = Literal[
    "stop", "tool_calls", "length", "cancelled", "deadline", "shutdown", "repetition", "filtered", "error"
]  # filtered: by whoever asked
DeltaKind = Literal["answer", "reasoning", "tool"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """What a model asks its caller to do; engines do nothing of it themselves.

    ``arguments`` is one JSON object as text. ``problem`` says, for admins, why the call cannot be passed on;
    ``written`` is then what the model wrote, where it cannot be read.
    """

    name: str
    arguments: str = field(default="{}", repr=False)
    id: str = ""
    problem: str = ""
    written: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One turn of a prompt. ``images`` are encoded files, for vision models.

    An assistant's turn may hold ``calls``; a tool's is the result of the one with ``call_id``.
    """

    role: Role
    text: str
    images: tuple[bytes, ...] = field(default=(), repr=False)
    calls: tuple[ToolCall, ...] = ()
    call_id: str = ""


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to choose tokens. None leaves the choice to the model's own default."""

    max_new_tokens: int = 1024
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GenRequest:
    """One prompt. ``id`` is unique among the requests in flight; ``cache_scope`` keeps tenants' caches apart."""

    id: str
    messages: tuple[ChatMessage, ...]
    sampling: SamplingParams = SamplingParams()
    deadline_s: float | None = None  # seconds from submit
    cache_scope: str = ""
    first_token_s: float | None = None  # how long to wait for the first token at most, where another model can answer
    priority: int = 0  # the higher goes first where an engine chooses
    tools: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)  # functions, in the shape of OpenAI's chat API
    tool_choice: str | Mapping[str, Any] | None = None  # as there: auto, none, required, or one function by name
    traceparent: str = ""  # W3C's header, for a service that continues our trace


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the model counted them."""

    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.prompt_tokens + other.prompt_tokens, self.completion_tokens + other.completion_tokens)


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of an answer, never half a character, or (kind ``tool``) a whole call. The last one has ``finish``."""

    text: str = ""
    kind: DeltaKind = "answer"
    finish: Finish | None = None
    error: str = ""  # with finish == "error": the reason, for admins
    call: ToolCall | None = None
    is_too_long: bool = False  # with finish == "error": a service found so


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds from submit."""

    first_token_s: float | None = None
    total_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Result:
    text: str
    usage: Usage
    finish: Finish
    timings: Timings
    error: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    is_too_long: bool = False


class Reply(ABC):
    """An answer under way. Iterate it once, from any thread; ``cancel`` may come from another."""

    def __init__(self) -> None:
        self._cancelled = threading.Event()

    @property
    def is_cancelled(self) -> bool:
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Stop soon; the final Delta says ``cancelled`` unless the answer was complete before."""
        self._cancelled.set()

    @abstractmethod
    def __iter__(self) -> Iterator[Delta]: ...

    @abstractmethod
    def result(self) -> Result:
        """What came of it; consumes the rest of the deltas first where they were not read."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Of the last few hundred values, in milliseconds."""

    p50: float = 0.0
    p95: float = 0.0
    p99: float = 0.0


@dataclass(frozen=True, slots=True)
class EngineStats:
    """What an engine is doing. Those that run elsewhere fill in what they know."""

    running: int = 0
    waiting: int = 0
    restarts: int = 0
    oldest_wait_s: float = 0.0
    path: str = ""  # how a local model is run: "paged", or "generate", one request at a time
    path_reason: str = ""  # why not "paged"
    has_given_up: bool = False  # broke too often: only a new process can help
    kv_used_tokens: int = 0
    kv_total_tokens: int = 0
    prefix_hit_tokens: int = 0  # prompt tokens that were found in the cache, since the start
    preemptions: int = 0
    steps: int = 0
    tokens_per_s: float = 0.0
    first_token_ms: Spread = Spread()
    between_tokens_ms: Spread = Spread()
    host_ms: Spread = Spread()  # a step's work besides the model's


class Engine(ABC):
    """A model that answers."""

    @abstractmethod
    def submit(self, request: GenRequest) -> Reply:
        """Return at once. Raises QueueFull, PromptTooLong, BadRequest, EngineDown."""

    @abstractmethod
    def stats(self) -> EngineStats: ...

    @abstractmethod
    def drain(self, deadline_s: float) -> None:
        """Take nothing new, let what runs end, cut the rest with finish ``shutdown`` at the deadline."""

    @abstractmethod
    def close(self) -> None:
        """Free what it holds. Idempotent."""
