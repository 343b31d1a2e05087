"""The firewall's JSON follows the settings."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.core.management import CommandError, call_command

PUBLIC = {"port_range": "443/443", "protocol": "TCP", "policy": "accept", "priority": 100}


@pytest.fixture(autouse=True)
def site(settings: Any) -> None:
    settings.HOST, settings.PORT, settings.PUBLIC_URL = "127.0.0.1", 18789, "https://bots.example.com"
    settings.TRUSTED_PROXIES, settings.METRICS_ALLOWED_NETWORKS = ["127.0.0.1"], ["127.0.0.0/8", "::1/128"]
    settings.WORKER_METRICS_PORT, settings.OUTBOUND_PROXY, settings.REDIS_URL = 0, "", ""
    settings.MODEL_ENDPOINT = "http://10.1.2.3:8000/v1"


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    call_command("securitygroup", *words)
    return dict(json.loads(capsys.readouterr().out))


def ports(made: dict[str, Any], **where: str) -> list[tuple[str, str, str]]:
    rules = [rule for rule in made["rules"] if where.items() <= rule.items()]
    return [(rule["port_range"], rule["protocol"], rule.get("cidr_ip", "")) for rule in rules]


def test_behind_nginx_only_its_ports_are_open(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "--ssh-from", "192.168.1.7/24") == {
        "name": "clawdbot",
        "rules": [
            PUBLIC,
            {"port_range": "80/80", "protocol": "TCP", "policy": "accept", "priority": 110},
            {
                "port_range": "22/22",
                "protocol": "TCP",
                "policy": "accept",
                "priority": 120,
                "cidr_ip": "192.168.1.0/24",
            },
        ],
    }


def test_without_nginx_the_guides_own_example_comes_out(capsys: pytest.CaptureFixture[str], settings: Any) -> None:
    settings.HOST, settings.PUBLIC_URL, settings.TRUSTED_PROXIES = "0.0.0.0", "http://203.0.113.7:18789", []

    made = printed(capsys, "--ssh-from", "192.168.1.0/24")

    assert ports(made) == [("18789/18789", "TCP", ""), ("22/22", "TCP", "192.168.1.0/24")]
    assert [rule["priority"] for rule in made["rules"]] == [100, 110]


def test_a_proxy_elsewhere_and_prometheus_reach_the_sites_own_port(
    capsys: pytest.CaptureFixture[str], settings: Any
) -> None:
    settings.HOST, settings.TRUSTED_PROXIES, settings.WORKER_METRICS_PORT = "10.0.0.5", ["10.0.0.0/28"], 18791
    settings.METRICS_ALLOWED_NETWORKS = ["127.0.0.0/8", "10.9.0.0/16"]

    assert ports(printed(capsys))[2:] == [
        ("18789/18789", "TCP", "10.0.0.0/28"),
        ("18789/18789", "TCP", "10.9.0.0/16"),
        ("18791/18791", "TCP", "10.9.0.0/16"),
    ]


def test_the_acl_has_both_directions_and_the_answers(capsys: pytest.CaptureFixture[str], settings: Any) -> None:
    settings.REDIS_URL = "redis://:secret-password@redis.internal:6379/0"

    made = printed(capsys, "--acl")

    assert ports(made, direction="ingress") == [
        ("443/443", "TCP", ""),
        ("80/80", "TCP", ""),
        ("1024/65535", "TCP", ""),
        ("1024/65535", "UDP", ""),
        ("1/65535", "ALL", ""),
    ]
    assert ports(made, direction="egress") == [
        ("443/443", "TCP", ""),
        ("6379/6379", "TCP", ""),
        ("8000/8000", "TCP", "10.1.2.3/32"),
        ("53/53", "UDP", ""),
        ("53/53", "TCP", ""),
        ("123/123", "UDP", ""),
        ("1024/65535", "TCP", ""),
        ("1/65535", "ALL", ""),
    ]
    assert [rule["policy"] for rule in made["rules"] if rule["protocol"] == "ALL"] == ["drop", "drop"]
    assert "secret-password" not in json.dumps(made)


def test_behind_an_outgoing_proxy_only_the_proxy_is_called(capsys: pytest.CaptureFixture[str], settings: Any) -> None:
    settings.OUTBOUND_PROXY = "http://10.0.0.2:3128"

    assert ports(printed(capsys, "--acl"), direction="egress")[0] == ("3128/3128", "TCP", "10.0.0.2/32")


def test_a_wrong_network_is_said_in_one_sentence() -> None:
    with pytest.raises(CommandError, match="--ssh-from home is no network"):
        call_command("securitygroup", "--ssh-from", "home")
