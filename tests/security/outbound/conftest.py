"""A server here, a guarded client, names as a test wants them, and nothing that is allowed."""

from __future__ import annotations

import socket

import pytest

from clawdbot_site.security.outbound import guarded_client

from .serving import serving


@pytest.fixture
def server():
    with serving() as server:
        yield server


@pytest.fixture
def client():
    with guarded_client(timeout=5) as client:
        yield client


@pytest.fixture(autouse=True)
def nothing_allowed(settings):
    settings.OUTBOUND_ALLOWED_NETWORKS = []
    settings.OUTBOUND_TRUSTED_ORIGINS = []
    settings.OUTBOUND_PROXY = ""


@pytest.fixture
def dns(monkeypatch):
    """Names as the test wants them: each look-up takes the next answer, the last one stays."""
    answers: dict[str, list[list[str]]] = {}
    asked: list[str] = []
    real = socket.getaddrinfo

    def look_up(host, port, *args, **kwargs):
        if host not in answers:
            return real(host, port, *args, **kwargs)
        asked.append(host)
        found = answers[host].pop(0) if len(answers[host]) > 1 else answers[host][0]
        return [entry for address in found for entry in real(address, port, *args, **kwargs)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return answers, asked
