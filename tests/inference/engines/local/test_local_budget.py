"""Prompts take what room the steps have, and no more."""

from __future__ import annotations

import pytest

from inference.engines.local.budget import PrefillBudget

GOAL_S = 0.05


def after(budget: PrefillBudget, steps: int, per_token_s: float) -> int:
    """Steps filled with prompts, on a device that takes so long for each token and 10 ms for the others."""
    for _ in range(steps):
        tokens = budget.tokens(others_wait=True)
        budget.note(0.01 + tokens * per_token_s, tokens, others_waited=True)
    return budget.tokens(others_wait=True)


@pytest.mark.parametrize("per_token_s", [0.0001, 0.0002, 0.0005])
def test_steps_settle_just_below_the_goal(per_token_s):
    tokens = after(PrefillBudget(2048, GOAL_S), 30, per_token_s)

    assert 0.75 * GOAL_S <= 0.01 + tokens * per_token_s <= 1.01 * GOAL_S


def test_a_fast_device_keeps_the_whole_budget():
    assert after(PrefillBudget(2048, GOAL_S), 10, 0.000001) == 2048


def test_a_slow_device_still_gets_on_with_a_prompt():
    assert after(PrefillBudget(2048, GOAL_S), 50, 1.0) == 64
    assert after(PrefillBudget(48, GOAL_S), 50, 1.0) == 48


def test_the_budget_comes_back_after_a_slow_time():
    budget = PrefillBudget(2048, GOAL_S)
    assert after(budget, 20, 0.01) == 64

    assert after(budget, 20, 0.000001) == 2048


def test_nobody_is_held_up_by_prompts_alone():
    budget = PrefillBudget(512, GOAL_S)
    after(budget, 20, 0.01)
    budget.note(9.0, 512, others_waited=False)

    assert budget.tokens(others_wait=False) == 512


def test_a_step_that_was_not_filled_says_nothing_about_a_larger_one():
    budget = PrefillBudget(512, GOAL_S)
    small = after(budget, 20, 0.001)
    budget.note(0.011, 3, others_waited=True)

    assert budget.tokens(others_wait=True) == small
