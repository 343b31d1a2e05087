"""What the product itself refuses."""

from __future__ import annotations


class BotError(Exception):
    """Root. The text is for whoever called."""


class NotStored(BotError):
    """The database did not take the message; the platform should deliver it again."""


class Busy(BotError):
    """More waits for the bot than its limit allows; asking again in ``retry_after_s`` may help."""

    retry_after_s = 10


class LeaseLost(BotError):
    """Another worker holds the conversation now: whatever this one does must have no effect."""
