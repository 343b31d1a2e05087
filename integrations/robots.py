"""The border to custom group robots: webhooks by which messages go into one group, and nothing comes back.

Each platform's ``robot.py`` has the functions of ``RobotPlatform``; ``group_robots.py`` calls them. Plain Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import httpx


@dataclass(frozen=True, slots=True)
class RobotAddress:
    """One robot. Whoever has ``url`` may write into its group, so it is a secret like ``secret``, which signs."""

    id: str
    url: str = field(repr=False)
    secret: str = field(default="", repr=False)


class RobotPlatform(Protocol):
    """A module of a platform."""

    @property
    def ORIGINS(self) -> Sequence[str]:
        """The platform's public hosts."""

    def address(self, given: str, bases: Sequence[str]) -> str:
        """The address to keep of what an admin pasted: a whole webhook address, or the token in it (upon ``bases[0]``).

        ``bases`` are the origins it may lead to. Raises ValueError with words for the admin.
        """

    def send(self, robot: RobotAddress, title: str, text: str, http: httpx.Client, *, is_markdown: bool = True) -> None:
        """Put one message into the group, within the robot's limits; it can ring at nobody. ``title`` may be empty.

        Without ``is_markdown`` the text is shown sign for sign.
        Raises PlatformError (``permanent`` when no retry helps) and OutcomeUnknown.
        """
