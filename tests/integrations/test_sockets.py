"""WebSockets to the platforms obey the rules of all outgoing calls."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response

from integrations import sockets
from integrations.errors import PlatformError
from integrations.sockets import dial
from tests.security.outbound.serving import certificate

pytestmark = pytest.mark.django_db(transaction=True)


async def echo(connection: ServerConnection) -> None:
    async for text in connection:
        await connection.send(text)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async def admit(connection: ServerConnection, request: Request) -> Response | None:
        if request.path != "/moved":
            return None
        answer = connection.respond(302, "")
        answer.headers["Location"] = "/"
        return answer

    async with serve(echo, "127.0.0.1", 0, process_request=admit, close_timeout=0.1) as running:
        yield running


def url(server: Server, path: str = "/") -> str:
    return f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}{path}"


@pytest.fixture
def loopback_allowed(settings: Any) -> None:
    settings.OUTBOUND_ALLOWED_NETWORKS = ["127.0.0.0/8"]


@pytest.mark.usefixtures("loopback_allowed")
async def test_an_allowed_address_is_reached(server):
    socket = await dial(url(server), may_be_plain=True)
    await socket.send("Hello")
    said = await socket.recv()
    await socket.close()

    assert said == "Hello"


async def test_a_private_address_is_refused_for_good(server):
    with pytest.raises(PlatformError, match="is not a public address") as refused:
        await dial(url(server), may_be_plain=True)

    assert refused.value.permanent


@pytest.mark.usefixtures("loopback_allowed")
async def test_a_connection_without_encryption_is_refused_where_https_was_chosen(server):
    with pytest.raises(PlatformError, match="without encryption") as refused:
        await dial(url(server))

    assert refused.value.permanent


@pytest.mark.usefixtures("loopback_allowed")
async def test_a_redirect_is_not_followed(server):
    with pytest.raises(PlatformError, match="InvalidStatus") as refused:
        await dial(url(server, "/moved"), may_be_plain=True)

    assert not refused.value.permanent


@pytest.mark.usefixtures("loopback_allowed")
@pytest.mark.parametrize(
    "bad", ["http://x/", "wss://", "wss://no such host/", "nonsense", "wss://127.0.0.1:1/?ticket=secret"]
)
async def test_an_address_that_leads_nowhere_is_said_without_its_ticket(bad):
    with pytest.raises(PlatformError) as refused:
        await dial(bad, may_be_plain=True)

    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("is_trusted", "host", "reached"), [(0, "localhost", 0), (1, "localhost", 1), (1, "127.0.0.1", 0)]
)
async def test_a_certificate_must_be_vouched_for_and_name_the_host(
    tmp_path, settings, monkeypatch, is_trusted, host, reached
):
    settings.OUTBOUND_ALLOWED_NETWORKS = ["127.0.0.0/8", "::1/128"]
    context, trusted = certificate(tmp_path, "localhost")
    if is_trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    sockets._certificates.cache_clear()

    async with serve(echo, ["127.0.0.1"], 0, ssl=context, close_timeout=0.1) as running:
        address = url(running).replace("ws://127.0.0.1", f"wss://{host}")
        said = await _reached(address)
    sockets._certificates.cache_clear()

    assert said == ("" if reached else "SSLCertVerificationError")


async def _reached(address: str) -> str:
    """Why not, or nothing."""
    try:
        socket = await dial(address)
    except PlatformError as problem:
        return type(problem.__cause__).__name__
    await socket.close()
    return ""


async def test_public_addresses_are_reached_through_the_proxy(server, settings):
    settings.OUTBOUND_PROXY = url(server).replace("ws://", "http://")

    with pytest.raises(PlatformError, match="Proxy"):
        await dial("wss://8.8.8.8/")
