"""Requests that differ from an authentic one in one or two places: for the adapters and for the site's own door."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from integrations.values import WebhookRequest

NOISE = (
    b"\x00",
    b"\xff",
    b"\xed\xa0\x80",
    b'"',
    b"}",
    b"{",
    b"[" * 40,
    b"1e999",
    b"null",
    b"\\u0000",
    b"\r\n",
    " ".encode("utf-16"),
)
VALUES = ("", "0", "-1", "1e9", "9" * 40, "\x00", "é", "none", "true", " ", "=", "AAAA", "\u0661\u0662", "x" * 300)


def mutant(request: WebhookRequest, other: WebhookRequest, random: Random) -> WebhookRequest:
    """``other`` is a second authentic request, whose parts may be taken. Never equal to ``request``."""
    while True:
        changed = request
        for _each in range(random.choice((1, 1, 1, 2))):
            changed = random.choice(CHANGES)(changed, other, random)
        if changed != request and changed != other:
            return changed


def _flipped(request: WebhookRequest, other: WebhookRequest, random: Random) -> WebhookRequest:
    body = bytearray(request.body or b"{}")
    body[random.randrange(len(body))] ^= 1 << random.randrange(8)
    return replace(request, body=bytes(body))


def _spliced(request: WebhookRequest, other: WebhookRequest, random: Random) -> WebhookRequest:
    """A piece taken out, doubled, or replaced by noise or by what stands there in the other request."""
    start = random.randrange(len(request.body) + 1)
    end = min(len(request.body), start + random.choice((0, 1, 2, 16, 200)))
    piece = random.choice((b"", request.body[start:end] * 2, random.choice(NOISE), other.body[start:end]))
    return replace(request, body=request.body[:start] + piece + request.body[end:])


def _cut(request: WebhookRequest, other: WebhookRequest, random: Random) -> WebhookRequest:
    return replace(request, body=request.body[: random.randrange(len(request.body) + 1)])


def _other_body(request: WebhookRequest, other: WebhookRequest, random: Random) -> WebhookRequest:
    return replace(request, body=other.body)


def _headers(request: WebhookRequest, other: WebhookRequest, random: Random) -> WebhookRequest:
    return replace(request, headers=_changed(dict(request.headers), dict(other.headers), random))


def _query(request: WebhookRequest, other: WebhookRequest, random: Random) -> WebhookRequest:
    return replace(request, query=_changed(dict(request.query), dict(other.query), random))


def _clock(request: WebhookRequest, other: WebhookRequest, random: Random) -> WebhookRequest:
    """Far too late, or far too early: what was authentic is so no more."""
    return replace(
        request, received_at_s=request.received_at_s + random.choice((-1, 1)) * random.randint(10, 400) * 86_400
    )


def _changed(given: dict[str, str], other: dict[str, str], random: Random) -> dict[str, str]:
    if not given:
        return other
    name = random.choice(sorted(given))
    value = given.pop(name)
    match random.randrange(6):
        case 0:
            return given  # without it
        case 1:
            return given | {name: other.get(name, "")}
        case 2:
            return given | {name: random.choice(VALUES)}
        case 3:
            second = random.choice(sorted(given) or [name])
            return given | {name: given.get(second, value), second: value}
        case 4:
            return given | {name: value[: random.randrange(len(value) + 1)]}
        case _:
            place = random.randrange(len(value) + 1)
            return given | {name: value[:place] + random.choice("0aZ=/+ \u00e9") + value[place + 1 :]}


CHANGES = (_flipped, _flipped, _spliced, _spliced, _cut, _other_body, _headers, _headers, _query, _clock)
