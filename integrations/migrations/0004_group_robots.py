"""Custom group robots: webhooks into one group, for pushes and alerts."""

import django.db.models.deletion
from django.db import migrations, models

import clawdbot_site.security.fields
import monitoring.ids


class Migration(migrations.Migration):
    dependencies = [("integrations", "0003_quota_usage"), ("security", "0001_initial")]

    operations = [
        migrations.CreateModel(
            name="GroupRobot",
            fields=[
                (
                    "id",
                    models.UUIDField(default=monitoring.ids.uuid7, editable=False, primary_key=True, serialize=False),
                ),
                ("name", models.CharField(max_length=100, verbose_name="name")),
                (
                    "platform",
                    models.CharField(
                        choices=[("feishu", "Feishu / Lark"), ("dingtalk", "DingTalk")],
                        max_length=20,
                        verbose_name="platform",
                    ),
                ),
                ("webhook_url", clawdbot_site.security.fields.EncryptedTextField(verbose_name="webhook address")),
                (
                    "signing_secret",
                    clawdbot_site.security.fields.EncryptedTextField(blank=True, verbose_name="signing secret"),
                ),
                ("is_enabled", models.BooleanField(default=True, verbose_name="enabled")),
                ("last_sent_at", models.DateTimeField(editable=False, null=True, verbose_name="last message")),
                ("last_error", models.CharField(blank=True, editable=False, max_length=500, verbose_name="last error")),
                ("created_at", models.DateTimeField(auto_now_add=True, verbose_name="created at")),
                ("updated_at", models.DateTimeField(auto_now=True, verbose_name="updated at")),
                (
                    "team",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        to="security.team",
                        verbose_name="team",
                    ),
                ),
            ],
            options={
                "verbose_name": "group robot",
                "verbose_name_plural": "group robots",
                "ordering": ["name"],
                "indexes": [models.Index(fields=["-created_at", "-id"], name="group_robot_newest")],
            },
        ),
    ]
