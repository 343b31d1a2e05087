"""What the bot does on Feishu: one method per call that makes, changes or marks something. Knows no replies, no texts.

Source: PROTOCOL.md, "Calls".
"""

from __future__ import annotations

from uuid import uuid4

from integrations.feishu.calls import FeishuCalls, Json, in_path
from integrations.feishu.cards import Part
from integrations.feishu.refusals import FeishuError


class FeishuClient(FeishuCalls):
    """The calls of one app. All raise FeishuError; those on a card or about the bot wait for their turn (HeldBack).

    Sends and new cards leave a trace in a journal: ask ``pace`` before it, then make them.
    """

    def bot_open_id(self) -> str:
        """The bot's own open_id; it differs per app."""
        self.pace("bot info")
        bot = self._call("bot info", "GET", "/bot/v3/info").get("bot")
        return str(bot.get("open_id") or "") if isinstance(bot, dict) else ""

    def send_message(self, id_type: str, receive_id: str, part: Part, uuid: str) -> str:
        """Send to a chat (``chat_id``) or a person (``open_id``); returns the message id.

        The same ``uuid`` gives at most one message within an hour.
        """
        body = {"receive_id": receive_id, **_message(part, uuid)}
        path = f"/im/v1/messages?receive_id_type={id_type}"
        return self._message_id(self._call("send", "POST", path, body, chat_id=receive_id))

    def reply_message(self, message_id: str, part: Part, uuid: str, chat_id: str = "") -> str:
        """Reply to a message, in its thread where it stands in one; returns the message id. ``uuid`` as above.

        ``chat_id`` is where the message stands: that chat is left alone when it has had too many.
        """
        body = {**_message(part, uuid), "reply_in_thread": False}
        path = f"/im/v1/messages/{in_path(message_id)}/reply"
        return self._message_id(self._call("reply", "POST", path, body, chat_id=chat_id))

    def add_reaction(self, message_id: str, emoji: str) -> str:
        """Put a reaction under a message; returns its id, by which it is taken away."""
        path = f"/im/v1/messages/{in_path(message_id)}/reactions"
        body = {"reaction_type": {"emoji_type": emoji}}
        return _id(self._call("add reaction", "POST", path, body), "reaction_id", "add reaction")

    def remove_reaction(self, message_id: str, reaction_id: str) -> None:
        path = f"/im/v1/messages/{in_path(message_id)}/reactions/{in_path(reaction_id)}"
        self.pace("remove reaction")
        self._call("remove reaction", "DELETE", path)

    def create_card(self, card: str) -> str:
        """Make a card entity of a card's JSON; returns its id. It can be sent once."""
        answer = self._call("create card", "POST", "/cardkit/v1/cards", {"type": "card_json", "data": card})
        return _id(answer, "card_id", "create card")

    def update_card_text(self, card_id: str, element_id: str, text: str, sequence: int) -> None:
        """Replace an element's text. ``sequence`` must be higher than in any earlier operation on the card."""
        self._operate("update card", "PUT", card_id, f"/elements/{element_id}/content", sequence, content=text)

    def update_card_settings(self, card_id: str, settings: str, sequence: int) -> None:
        """Change a card's settings, given as JSON text. ``sequence`` as above."""
        self._operate("card settings", "PATCH", card_id, "/settings", sequence, settings=settings)

    def replace_card_element(self, card_id: str, element_id: str, element: str, sequence: int) -> None:
        """Put another element, given as JSON text, in the place of one. ``sequence`` as above."""
        self._operate("card element", "PUT", card_id, f"/elements/{element_id}", sequence, element=element)

    def remove_card_element(self, card_id: str, element_id: str, sequence: int) -> None:
        self._operate("card element", "DELETE", card_id, f"/elements/{element_id}", sequence)

    def _operate(self, name: str, method: str, card_id: str, path: str, sequence: int, **what: str) -> None:
        """Every operation has a uuid of its own: a repeated one would be taken for done, whatever it holds."""
        body = {**what, "sequence": sequence, "uuid": uuid4().hex}
        self.pace(name, card_id=card_id)
        self._call(name, method, f"/cardkit/v1/cards/{in_path(card_id)}{path}", body, card_id=card_id)

    def _message_id(self, answer: Json) -> str:
        return _id(answer, "message_id", "send")


def _message(part: Part, uuid: str) -> Json:
    return {"msg_type": part.msg_type, "content": part.content, "uuid": uuid}


def _id(answer: Json, name: str, call: str) -> str:
    data = answer.get("data")
    found = data.get(name) if isinstance(data, dict) else None
    if not isinstance(found, str) or not found:
        raise FeishuError(f"Feishu, {call}: the answer has no {name}", is_refusal=False)
    return found
