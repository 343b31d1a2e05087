"""How many tokens of prompts a step may take while others wait for their next token. Pure."""

from __future__ import annotations

_SMALLEST = 64  # a prompt must come to its end some day
_MOST_AT_ONCE = 1.5  # how much a budget changes from one step to the next
_WIDE_ENOUGH = 0.8  # of the goal; below it there is room for more


class PrefillBudget:
    """Follows the time that steps take: mixed steps that take longer than ``goal_s`` get smaller, and back again."""

    def __init__(self, most: int, goal_s: float) -> None:
        self._most = most
        self._goal_s = goal_s
        self._tokens = float(most)

    def tokens(self, *, others_wait: bool) -> int:
        """Nobody is held up by a step of prompts alone: it takes all it may."""
        return int(self._tokens) if others_wait else self._most

    def note(self, step_s: float, prompt_tokens: int, *, others_waited: bool) -> None:
        """What a step took. One that was not filled says nothing about a larger one."""
        if not (others_waited and prompt_tokens and step_s > 0):
            return
        change = min(_MOST_AT_ONCE, max(1 / _MOST_AT_ONCE, self._goal_s / step_s))
        is_filled = prompt_tokens >= int(self._tokens)
        if step_s > self._goal_s or (is_filled and step_s < _WIDE_ENOUGH * self._goal_s):
            self._tokens = min(self._most, max(min(_SMALLEST, self._most), self._tokens * change))
