"""Buttons of our cards: how they look, what comes back when one is pressed, and what the person is told at once.

Pure. Source: PROTOCOL.md, "Card callbacks" and "Buttons".
"""

from __future__ import annotations

from typing import Any, Final

from integrations.feishu.fields import Json, object_of, required, text_of
from integrations.values import Button, Buttons, CardAction, Ignored, Inbound, Toast

EVENT: Final = "card.action.trigger"
ELEMENT_ID: Final = "actions"
LONGEST_TOAST: Final = 200
_OURS: Final = "clawdbot"  # marks our values: a company's other cards may share the app
_STOP, _UP, _DOWN = "stop_outlined", "thumbsup_outlined", "thumbdown_outlined"


def read(event: Json, header: Json) -> Inbound:
    """A pressed button of ours. Others are acknowledged: an error would be shown to who pressed."""
    value = text_of(object_of(object_of(event.get("action")).get("value")).get(_OURS))
    if not value:
        return Ignored("button that is not ours")
    context = object_of(event.get("context"))
    user_id = required(object_of(event.get("operator")), "open_id")
    return CardAction(user_id, value, chat_id=text_of(context.get("open_chat_id")))


def answer(toast: Toast) -> dict[str, Any]:
    """The body that Feishu wants within 3 s. The card stays as it is: while it grows, no answer can change it."""
    return {"toast": {"type": toast.kind, "content": toast.text[:LONGEST_TOAST]}} if toast.text else {}


def while_growing(buttons: Buttons) -> dict[str, Any] | None:
    """The row below a text that grows; None where there is nothing to press. It keeps its place when it changes."""
    return _row([(buttons.stop, _STOP)]) or when_complete(buttons)


def when_complete(buttons: Buttons) -> dict[str, Any] | None:
    return _row([(buttons.up, _UP), (buttons.down, _DOWN)])


def _row(wanted: list[tuple[Button | None, str]]) -> dict[str, Any] | None:
    columns = [_column(button, icon) for button, icon in wanted if button]
    if not columns:
        return None
    return {"tag": "column_set", "element_id": ELEMENT_ID, "horizontal_spacing": "8px", "columns": columns}


def _column(button: Button, icon: str) -> dict[str, Any]:
    return {"tag": "column", "width": "auto", "elements": [_button(button, icon)]}


def _button(button: Button, icon: str) -> dict[str, Any]:
    """A picture with its name on hover: words below a text would pass for a part of it in previews and forwards."""
    return {
        "tag": "button",
        "type": "text",
        "size": "small",
        "text": {"tag": "plain_text", "content": ""},
        "icon": {"tag": "standard_icon", "token": icon, "color": "grey"},
        "hover_tips": {"tag": "plain_text", "content": button.label},
        "behaviors": [{"type": "callback", "value": {_OURS: button.value}}],
    }
