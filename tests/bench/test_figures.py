from __future__ import annotations

import math

import pytest

from bench.figures import due_times, middle, percentile


@pytest.mark.parametrize(
    ("share", "wanted"), [(0.0, 1.0), (0.5, 50.0), (0.501, 51.0), (0.99, 99.0), (0.991, 100.0), (1.0, 100.0)]
)
def test_a_percentile_is_a_value_that_occurred(share: float, wanted: float) -> None:
    unsorted = [float(n) for n in range(100, 0, -1)]

    assert percentile(unsorted, share) == wanted


def test_one_slow_answer_of_fifty_is_the_p99() -> None:
    assert percentile([1.0] * 49 + [900.0], 0.99) == 900.0


def test_nothing_measured_is_no_figure() -> None:
    assert [math.isnan(percentile([], 0.99)), math.isnan(middle([]))] == [True, True]


def test_an_open_loop_is_evenly_spaced_and_ends_with_its_time() -> None:
    assert list(due_times(4.0, 1.5)) == [0.0, 0.25, 0.5, 0.75, 1.0, 1.25]
