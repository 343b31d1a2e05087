"""PostgreSQL finds a row by its id in one page, however many rows there are (the hash indexes of migration 0016)."""

import pytest
from django.db import connection
from django.db.models import Model

from bots.models import Conversation, Message
from monitoring.ids import uuid7

pytestmark = [pytest.mark.django_db, pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite has none")]


@pytest.mark.parametrize(
    ("model", "index"),
    [(Conversation, "conversation_by_id"), (Message, "message_by_id")],
    ids=["conversation", "message"],
)
def test_a_row_is_found_by_its_id_without_a_descent(model: type[Model], index: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")  # the table is empty
    assert f"Index Scan using {index}" in model.objects.filter(pk=uuid7()).explain()
