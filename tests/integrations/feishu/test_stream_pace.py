"""What Feishu's ClientConfig may change, and how long a client waits."""

from __future__ import annotations

from typing import Any

import pytest

from integrations.feishu.pace import LONGEST_S, Pace


def test_client_config_is_adopted() -> None:
    config = {"ReconnectCount": 3, "ReconnectInterval": 60, "ReconnectNonce": 10, "PingInterval": 90}

    assert Pace().adopt(config) == Pace(ping_s=90, interval_s=60, nonce_s=10, tries=3)


@pytest.mark.parametrize(
    "config",
    [
        None,
        [],
        "text",
        {},
        {"PingInterval": None, "ReconnectNonce": "30", "ReconnectInterval": -5, "ReconnectCount": 1.5},
        {"PingInterval": True, "ReconnectNonce": float("nan"), "ReconnectInterval": {}, "ReconnectCount": False},
    ],
)
def test_senseless_config_changes_nothing(config: Any) -> None:
    assert Pace().adopt(config) == Pace()


def test_feishu_cannot_make_us_hammer_or_sleep_for_ever() -> None:
    hurried = Pace().adopt({"PingInterval": 0, "ReconnectInterval": 0, "ReconnectNonce": 0})
    slow = Pace().adopt({"PingInterval": 10**400, "ReconnectInterval": float("inf"), "ReconnectNonce": 1e9})

    assert (hurried.ping_s, hurried.pause_s(0), hurried.pause_s(2)) == (1.0, 1.0, 1.0)
    assert (slow.ping_s, slow.interval_s, slow.nonce_s) == (LONGEST_S, LONGEST_S, LONGEST_S)


def test_path_is_dead_when_two_pongs_are_missing() -> None:
    assert Pace().silence_s == 270.0


def test_first_tries_are_spread_over_the_nonce() -> None:
    pauses = [Pace().pause_s(failures) for failures in (0, 1) for _ in range(500)]

    assert 1.0 <= min(pauses) < 3.0
    assert 27.0 < max(pauses) <= 30.0
    assert len({round(pause) for pause in pauses}) > 20


def test_later_tries_keep_to_the_interval_as_often_as_feishu_wants_them() -> None:
    endless, limited = Pace(), Pace(tries=2)

    assert [endless.pause_s(failures) for failures in (2, 1000)] == [120.0, 120.0]
    assert [limited.pause_s(failures) for failures in (2, 3)] == [120.0, 600.0]
