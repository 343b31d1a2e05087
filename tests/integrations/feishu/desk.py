"""One reply to one message, opened by as many workers as a test wants."""

from __future__ import annotations

from typing import Any

from integrations.base import ReplyStream
from integrations.feishu.adapter import FeishuAdapter
from integrations.values import NO_BUTTONS, Button, Buttons, Credentials, ReplyTarget
from tests.integrations.doubles import MemoryJournal

from .fake_feishu import FakeFeishu

BUTTONS = Buttons(Button("Stop", "stop:1"), Button("Good", "up:1"), Button("Bad", "down:1"))
LONG = "BEGIN\n" + "\n".join(f"第{i}行：这是一个很长的回答，用来检查分段。" for i in range(700)) + "\nTHE-END"


class Desk:
    def __init__(self, adapter: FeishuAdapter, app: Credentials, target: ReplyTarget, journal: MemoryJournal) -> None:
        self.adapter, self.app, self.target, self.journal = adapter, app, target, journal

    def open(self, *, streaming: bool = False, buttons: Buttons = NO_BUTTONS) -> ReplyStream:
        return self.adapter.open_reply(self.app, self.target, self.journal, streaming=streaming, buttons=buttons)

    def taken_over(self) -> Desk:
        return Desk(self.adapter, self.app, self.target, self.journal.taken_over())


def card(feishu: FakeFeishu) -> Any:
    """The only card."""
    assert len(feishu.cards) == 1
    return next(iter(feishu.cards.values()))


def buttons_of(card: Any) -> list[str]:
    """The values of the buttons that a person sees on a card."""
    rows = [element for element in card.data["body"]["elements"] if element["tag"] == "column_set"]
    pressed = [column["elements"][0] for row in rows for column in row["columns"]]
    return [button["behaviors"][0]["value"]["clawdbot"] for button in pressed]
