"""Seals and checkpoints are append-only as well, and every entry waits for its seal, those of before included."""

from django.db import migrations

from monitoring import triggers

SEALED = ("monitoring_auditseal", "monitoring_auditcheckpoint")


def install(apps, schema_editor):
    for table in SEALED:
        triggers.install(schema_editor, table)
    triggers.install_queue(schema_editor)
    columns = f"{triggers.QUEUE_TABLE} (entry_id) SELECT id FROM {triggers.AUDIT_TABLE}"  # our own names  # nosec B608
    schema_editor.execute(f"INSERT INTO {columns}")


def uninstall(apps, schema_editor):
    triggers.uninstall_queue(schema_editor)
    for table in SEALED:
        triggers.uninstall(schema_editor, table)


class Migration(migrations.Migration):
    dependencies = [("monitoring", "0003_audit_seals")]
    operations = [migrations.RunPython(install, uninstall)]
