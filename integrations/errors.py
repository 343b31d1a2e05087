"""What can go wrong between us and a chat platform, and whether trying again helps."""

from __future__ import annotations


class IntegrationError(Exception):
    """Root of everything the adapters raise."""


class AuthenticationError(IntegrationError):
    """An incoming request is not proved to come from the platform: signature, decryption, token or freshness."""


class PayloadError(IntegrationError):
    """An incoming request is nothing the platform could have sent: not one JSON object, or fields of a wrong type."""


class PlatformError(IntegrationError):
    """A platform refused or could not be reached; ``permanent`` means that no retry will help.

    ``retry_after_s`` is the platform's own waiting time, where it names one.
    """

    def __init__(self, message: str, *, permanent: bool = False, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.permanent = permanent
        self.retry_after_s = retry_after_s


class TooLarge(PlatformError):
    """A file is larger than it may be. Nothing of it is kept."""

    def __init__(self, message: str) -> None:
        super().__init__(message, permanent=True)


class OutcomeUnknown(PlatformError):
    """A send may or may not have become visible, and the platform offers no id by which to repeat it safely."""

    def __init__(self, message: str) -> None:
        super().__init__(message, permanent=True)


class NotTaken(IntegrationError):
    """An event of a long connection was not stored: it is not acknowledged, so that the platform sends it again."""
