"""The page of dead letters is one of the admin's views of the messages: state only, no table changes."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("bots", "0002_message_path_limits"),
    ]

    operations = [
        migrations.CreateModel(
            name="DeadLetter",
            fields=[],
            options={
                "verbose_name": "dead letter",
                "verbose_name_plural": "dead letters",
                "proxy": True,
                "default_permissions": (),
                "indexes": [],
                "constraints": [],
            },
            bases=("bots.message",),
        ),
    ]
