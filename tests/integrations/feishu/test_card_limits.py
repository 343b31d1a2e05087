"""Cards and messages as JSON against the limits of the protocol reference, one test a limit."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from integrations.feishu import actions, cards, markdown
from integrations.feishu.card_reply import SEQUENCES_PER_HOLDER
from integrations.values import Button, Buttons, Toast

from .desk import BUTTONS, Desk, card
from .fake_feishu import FakeFeishu

KIB = 1024
CARD_REQUEST_BYTES = 30 * KIB  # of a post's or card's request
TEXT_REQUEST_BYTES = 150 * KIB
MOST_ELEMENTS, MOST_TABLES = 200, 3
MOST_CHARS = 100_000  # of one streamed text
LONGEST_UUID, LONGEST_OPERATION_UUID = 50, 64
LAST_SEQUENCE = 2**31 - 1
LONGEST_TOAST = 200

# Texts that weigh most when they are encoded: quotes and line ends are escaped twice, Chinese takes three bytes.
HEAVY = {
    "chinese": "这是一个很长的回答，用来检查分段。" * 800,
    "quotes": '"\\' * 6_000,
    "emoji": "👨‍👩‍👧‍👦" * 1_500,
    "lines": "a\n\n" * 3_000,
    "code": f"```python\n{'print(1)' * 4_500}\n```",
    "one word": "x" * 34_000,
    "table": "|a|b|\n|--|--|\n" + "|1|你|\n" * 1_500,
}
RICH = {name: text for name, text in HEAVY.items() if not markdown.is_plain(text)}
LONGEST_LABEL = Button("停" * 60, f"stop:{'0' * 36}:{'f' * 64}")


def card_of(text: str, *, streaming: bool = True) -> Any:
    buttons = Buttons(LONGEST_LABEL, LONGEST_LABEL, LONGEST_LABEL)
    row = actions.while_growing(buttons) if streaming else actions.when_complete(buttons)
    return json.loads(cards.card(cards.fit(text)[0], streaming=streaming, row=row))


def request_bytes(body: Any) -> int:
    """A request as the client writes it."""
    return len(json.dumps(body, ensure_ascii=False).encode())


def elements_of(value: Any) -> list[Any]:
    if isinstance(value, list):
        return [found for item in value for found in elements_of(item)]
    if not isinstance(value, dict):
        return []
    own = [value] if "tag" in value else []
    return own + [found for item in value.values() for found in elements_of(item)]


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("text", HEAVY.values(), ids=HEAVY)
def test_request_that_makes_a_card_has_at_most_30_kb(text: str, streaming: bool) -> None:
    data = cards.as_json(card_of(text, streaming=streaming))

    assert request_bytes({"type": "card_json", "data": data}) <= CARD_REQUEST_BYTES
    assert len(data.encode()) > 5_000, "the text was there"


@pytest.mark.parametrize("text", HEAVY.values(), ids=HEAVY)
def test_card_stays_within_30_kb_when_it_is_closed_and_voted_on(text: str) -> None:
    """Closing adds a summary, and votes take the place of the stop button."""
    made = card_of(text)
    made["config"].update(json.loads(cards.closing_settings(cards.fit(text)[0]))["config"])
    made["body"]["elements"][1] = actions.when_complete(Buttons(None, LONGEST_LABEL, LONGEST_LABEL))

    assert request_bytes(made) <= CARD_REQUEST_BYTES


@pytest.mark.parametrize("text", HEAVY.values(), ids=HEAVY)
def test_step_of_a_streamed_text_has_1_to_100000_characters(text: str) -> None:
    for end in (1, 500, 20_000, len(text)):
        head = cards.preview(text[:end])
        assert 1 <= len(head) <= MOST_CHARS
        assert request_bytes({"content": head, "sequence": LAST_SEQUENCE, "uuid": "u" * 32}) <= CARD_REQUEST_BYTES


@pytest.mark.parametrize("text", ["", " \n"])
def test_text_of_nothing_is_never_a_step(text: str) -> None:
    """An empty content is refused; the caller leaves such a step out."""
    assert cards.preview(text) == ""


@pytest.mark.parametrize("text", HEAVY.values(), ids=HEAVY)
def test_message_of_rich_text_has_at_most_30_kb_and_of_plain_text_150(text: str) -> None:
    for part in [*cards.parts(text), *cards.fit(text)[1]]:
        body = {"receive_id": "oc_" + "x" * 32, "msg_type": part.msg_type, "content": part.content, "uuid": "u" * 50}
        assert request_bytes(body) <= (TEXT_REQUEST_BYTES if part.msg_type == "text" else CARD_REQUEST_BYTES)


@pytest.mark.parametrize("text", RICH.values(), ids=RICH)
def test_rich_text_that_falls_back_to_plain_text_keeps_within_its_limit(text: str) -> None:
    for part in cards.parts(text):
        assert request_bytes({"content": cards.as_text(part).content}) <= TEXT_REQUEST_BYTES


def test_card_has_few_elements_however_long_its_text() -> None:
    assert max(len(elements_of(card_of(text))) for text in HEAVY.values()) <= MOST_ELEMENTS


@pytest.mark.parametrize("streaming", [True, False])
def test_elements_have_ids_that_feishu_takes_each_once(streaming: bool) -> None:
    made = card_of("hello", streaming=streaming)
    ids = [element["element_id"] for element in elements_of(made) if "element_id" in element]

    assert ids == ["answer", "actions"]
    assert all(re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,19}", one) for one in ids)


@pytest.mark.parametrize("count", [3, 4, 12])
def test_card_has_at_most_three_tables_and_keeps_what_the_others_said(count: int) -> None:
    text = "\n\n".join(f"|a{n}|b|\n|--|--|\n|1|2|" for n in range(count))
    (element, _row) = card_of(text)["body"]["elements"]
    rows = re.findall(r"^\|[ |:-]+\|$", element["content"], re.MULTILINE)

    assert len(rows) == MOST_TABLES
    assert all(f"a{n}" in element["content"] for n in range(count))


@pytest.mark.parametrize("key", ["https://e.com/x.png", "data:image/png;base64,AAAA", "img_v3_forged", "/x.png", ""])
def test_card_shows_no_picture_that_was_not_uploaded(key: str) -> None:
    """A web address fails the whole card (200570), and a key of the model's own making would, too."""
    (element, _row) = card_of(f"see ![the chart]({key}) there")["body"]["elements"]

    assert "![" not in element["content"]
    assert "the chart" in element["content"]


def test_card_can_be_updated_for_all_and_is_of_schema_2() -> None:
    made = card_of("hello")

    assert (made["schema"], made["config"]["update_multi"]) == ("2.0", True)
    assert {element["tag"] for element in elements_of(made)} == {
        "markdown",
        "column_set",
        "column",
        "button",
        "plain_text",
        "standard_icon",
    }, "and not `action`, which schema 2.0 refuses (200861)"


@pytest.mark.parametrize("text", HEAVY.values(), ids=HEAVY)
def test_summary_in_the_list_of_chats_is_a_short_line(text: str) -> None:
    summary = json.loads(cards.closing_settings(text))["config"]["summary"]["content"]

    assert len(summary) <= cards.SUMMARY_CHARS
    assert "\n" not in summary


def test_uuids_and_sequences_keep_within_their_limits(desk: Desk, feishu: FakeFeishu) -> None:
    reply = desk.open(streaming=True, buttons=BUTTONS)
    for text in ("one", "one two"):
        reply.show(text)
    reply.finish("one two three")

    assert all(len(uuid) <= LONGEST_OPERATION_UUID for uuid in card(feishu).uuids)
    assert all(len(step.key) <= LONGEST_UUID for step in desk.journal.steps.values())
    assert all(a < b for a, b in zip(card(feishu).sequences, card(feishu).sequences[1:], strict=False))
    assert LAST_SEQUENCE // SEQUENCES_PER_HOLDER > 200_000, "so many workers may hold one reply"


def test_answer_to_a_press_is_short() -> None:
    content = actions.answer(Toast("好" * 5_000))["toast"]["content"]

    assert len(content) == LONGEST_TOAST
