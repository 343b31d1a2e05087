"""What one run of load found, and the job that asks for it. They cross the border to the load process as JSON."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Door:
    """Where a site takes the callbacks of one DingTalk app, and what signs them."""

    port: int
    path: str
    app_id: str = ""
    secret: str = field(default="", repr=False)

    def at(self, port: int) -> Door:
        return replace(self, port=port)


@dataclass(frozen=True, slots=True)
class Job:
    """One run. Without ``rate`` the loop is closed: each connection asks again as soon as it was answered."""

    door: Door
    connections: int
    seconds: float
    most: int = 20_000  # messages prepared before the clock starts; a run ends early when they are used up
    rate: float | None = None  # requests a second; latencies then count from when each was due
    waits_for_reply: bool = False  # end to end: done when the reply is at the platform, not when the site says 200
    people: int = 400  # each has a conversation
    first_person: int = 0


@dataclass(frozen=True, slots=True)
class Measured:
    sent: int
    finished: int  # in the time of the run; later ones count for the latencies only
    errors: int  # answers other than 200
    lost: int  # not answered, or not replied to, long after the end
    seconds: float
    p50_ms: float
    p99_ms: float

    @property
    def rate(self) -> float:
        return self.finished / self.seconds if self.seconds else math.nan
