"""What the product itself refuses."""

from __future__ import annotations


class BotError(Exception):
    """Root. The text is for whoever called."""


class NotStored(BotError):
    """The database did not take the message; the platform should deliver it again."""


class LeaseLost(BotError):
    """Another worker holds the conversation now: whatever this one does must have no effect."""
