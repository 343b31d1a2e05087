"""How much of a month's quota an app has used."""

import django.db.models.deletion
from django.db import migrations, models

import monitoring.ids


class Migration(migrations.Migration):
    dependencies = [("integrations", "0002_monthly_quotas")]

    operations = [
        migrations.CreateModel(
            name="QuotaUsage",
            fields=[
                (
                    "id",
                    models.UUIDField(default=monitoring.ids.uuid7, editable=False, primary_key=True, serialize=False),
                ),
                ("month", models.DateField(verbose_name="month")),
                (
                    "quota",
                    models.CharField(
                        choices=[("api", "API calls"), ("webhook", "webhook and Stream calls")],
                        max_length=10,
                        verbose_name="quota",
                    ),
                ),
                ("used", models.PositiveIntegerField(default=0, verbose_name="used")),
                ("used_up_at", models.DateTimeField(blank=True, null=True, verbose_name="used up at")),
                (
                    "credential",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="usage",
                        to="integrations.platformcredential",
                    ),
                ),
            ],
            options={
                "verbose_name": "quota used",
                "verbose_name_plural": "quotas used",
                "ordering": ["-month", "quota"],
                "constraints": [
                    models.UniqueConstraint(fields=("credential", "month", "quota"), name="one_count_per_month")
                ],
            },
        ),
    ]
