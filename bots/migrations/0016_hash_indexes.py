from django.db import migrations

# Every message looks up its conversation and itself a dozen times, by id alone. A hash index answers that from one page
# however many rows there are; the primary key's B-tree grows a level with every few hundred times as many.
INDEXES = {"conversation_by_id": "bots_conversation", "message_by_id": "bots_message"}


def create(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        for name, table in INDEXES.items():
            schema_editor.execute(f"CREATE INDEX IF NOT EXISTS {name} ON {table} USING hash (id)")


def drop(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        for name in INDEXES:
            schema_editor.execute(f"DROP INDEX IF EXISTS {name}")


class Migration(migrations.Migration):
    dependencies = [("bots", "0015_message_retention")]

    operations = [migrations.RunPython(create, drop, elidable=False)]
