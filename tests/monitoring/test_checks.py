from __future__ import annotations

from monitoring.checks import check_metrics_token, check_networks


def test_the_start_is_refused_when_a_network_is_none(settings):
    settings.TRUSTED_PROXIES = ["10.0.0.0/8", "nginx"]
    settings.METRICS_ALLOWED_NETWORKS = ["10.0.0.0/64"]

    assert [error.msg for error in check_networks()] == [
        "TRUSTED_PROXIES: 'nginx' is not a network.",
        "METRICS_ALLOWED_NETWORKS: '10.0.0.0/64' is not a network.",
    ]


def test_the_start_is_refused_when_the_metrics_token_is_guessable(settings):
    settings.METRICS_TOKEN = "secret"
    assert [error.id for error in check_metrics_token()] == ["monitoring.E002"]
    settings.METRICS_TOKEN = ""
    assert check_metrics_token() == []
