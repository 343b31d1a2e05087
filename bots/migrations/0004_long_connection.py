"""Who holds an endpoint's long connection, and how it is. A new table: code of before does not notice."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("bots", "0003_dead_letter"),
    ]

    operations = [
        migrations.CreateModel(
            name="LongConnection",
            fields=[
                (
                    "endpoint",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="long_connection",
                        serialize=False,
                        to="bots.endpoint",
                    ),
                ),
                ("holder", models.CharField(blank=True, default="", max_length=64)),
                ("fence", models.PositiveBigIntegerField(default=0)),
                ("held_until", models.DateTimeField(blank=True, null=True)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("idle", "nobody holds it"),
                            ("connecting", "connecting"),
                            ("connected", "connected"),
                            ("waiting", "interrupted, tried again soon"),
                            ("refused", "refused by the platform"),
                        ],
                        default="idle",
                        max_length=10,
                    ),
                ),
                ("detail", models.CharField(blank=True, default="", max_length=500)),
                ("connected_at", models.DateTimeField(blank=True, null=True)),
                (
                    "last_event_at",
                    models.DateTimeField(blank=True, help_text="When the platform last sent anything.", null=True),
                ),
                ("reconnects", models.PositiveIntegerField(default=0)),
            ],
            options={
                "verbose_name": "long connection",
                "verbose_name_plural": "long connections",
                "default_permissions": (),
            },
        ),
    ]
