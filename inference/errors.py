"""What an engine can refuse. ``retry_after_s`` is set where waiting helps."""

from __future__ import annotations

FILTERED = "the service's content filter stopped the answer"  # the reason of such an end; asking elsewhere is no remedy


class InferenceError(Exception):
    """Root. The text is for admins and logs, never for the person who asked."""

    retry_after_s: float | None = None


class BadRequest(InferenceError):
    """The request can never succeed: empty, too large, or a value the model refuses."""


class PromptTooLong(BadRequest):
    """Prompt and answer do not fit the model's context."""


class QueueFull(InferenceError):
    """The engine has all the work it will take; ask again after ``retry_after_s``."""

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class EngineDown(InferenceError):
    """The engine broke, could not be reached, or refused our key. Its own retries are used up."""


class ShuttingDown(EngineDown):
    """The engine takes nothing new because its process, or its place in it, ends: another one will answer."""
