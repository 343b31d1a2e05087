"""Inside a site on PostgreSQL: conversations of two questions and answers each, until there are COUNT.

    python -m bench.fill COUNT

One conversation is made as the product would; the others are copies of its rows, made by the database.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import django
from django.db import connection
from django.db.models import Model
from django.utils import timezone

django.setup()

from bots.models import Conversation, Endpoint, Message

TURNS = 2
# Not by an index: a hash index cannot grow while a statement that fills it also reads from it.
TEMPLATE = "id::text = %s"


def main(count: int) -> None:
    first = Conversation.objects.filter(scope_key="direct:cid0").first() or _template()
    stored = Conversation.objects.filter(source=first.source, scope_key__startswith="direct:cid").count()
    series = f"generate_series({stored}, {count - 1}) AS copy(n)"
    with connection.cursor() as cursor:
        cursor.execute(_copies(Conversation, series, TEMPLATE, _conversation_columns()), [str(first.pk)])
        filled = Message.objects.filter(conversation=first, external_id__startswith="fill-")
        for message in filled.order_by("received_at", "id"):  # questions before the replies that refer to them
            changed = _message_columns(message.pk, message.external_id, message.reply_to_id)
            cursor.execute(_copies(Message, series, TEMPLATE, changed), [str(message.pk)])
        cursor.execute("VACUUM ANALYZE")
    print(f"{Conversation.objects.count()} conversations, {Message.objects.count()} messages")


def _template() -> Conversation:
    """A person's conversation, settled."""
    endpoint = Endpoint.objects.get(bot__slug__startswith="bench-")
    person = {"chat_id": "cid0", "user_id": "person0", "user_name": "Bench"}
    place = {"source": endpoint.pk.hex, "scope_key": "direct:cid0", "platform": "dingtalk"}
    made = Conversation.objects.create(bot=endpoint.bot, endpoint=endpoint, **place, **person)
    for turn in range(TURNS):
        at = timezone.now() - timedelta(hours=TURNS - turn)
        settled: dict[str, Any] = {
            "conversation": made,
            "platform": "dingtalk",
            "status": "delivered",
            "delivered_at": at,
        }
        settled |= {"received_at": at, "text": "What is there for lunch?", "app_id": endpoint.credential.app_id}
        asked = Message.objects.create(role="user", external_id=f"fill-{turn}-q-0", sender_id="person0", **settled)
        Message.objects.create(role="assistant", external_id=f"fill-{turn}-a-0", reply_to=asked, **settled)
    return made


def _copies(model: type[Model], series: str, which: str, changed: Mapping[str, str]) -> str:
    columns = [str(field.column) for field in model._meta.concrete_fields if not field.generated]
    table, names = model._meta.db_table, ", ".join(f'"{column}"' for column in columns)
    values = ", ".join(changed.get(column, f'"{column}"') for column in columns)
    copies = f'SELECT {values} FROM "{table}" CROSS JOIN {series} WHERE {which} AND n > 0'  # noqa: S608  (own words only)
    return f'INSERT INTO "{table}" ({names}) {copies}'


def _id(kind: int) -> str:
    """An id for copy n, older than any that the product makes from now on."""
    return f"(lpad(to_hex(n), 12, '0') || '7000a000' || lpad('{kind:x}', 12, '0'))::uuid"


def _conversation_columns() -> dict[str, str]:
    return {"id": _id(0), "scope_key": "'direct:cid' || n", "chat_id": "'cid' || n", "user_id": "'person' || n"}


def _kind(external_id: str) -> int:
    _, turn, role, _ = external_id.split("-")
    return 1 + 2 * int(turn) + (role == "a")


def _message_columns(pk: object, external_id: str, reply_to: object) -> dict[str, str]:
    kind = _kind(external_id)
    return {
        "id": _id(kind),
        "conversation_id": _id(0),
        "external_id": f"'{external_id.rpartition('-')[0]}-' || n",
        "sender_id": "CASE sender_id WHEN '' THEN '' ELSE 'person' || n END",
        "reply_to_id": _id(kind - 1) if reply_to else "NULL",
    }


if __name__ == "__main__":
    main(int(sys.argv[1]))
