"""What a company's plan allows each month."""

from django.db import migrations, models

_API_HELP = (
    "How many billed API calls the company's plan allows each month. DingTalk's Standard edition: 5,000, and every step of "
    "a streamed answer is one. From 80 percent on answers grow in fewer steps, from 95 percent on they come as one message. 0: no "
    "limit is watched."
)


class Migration(migrations.Migration):
    dependencies = [("integrations", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="platformcredential",
            name="monthly_api_quota",
            field=models.PositiveIntegerField(
                blank=True, db_default=0, default=0, help_text=_API_HELP, verbose_name="monthly API calls"
            ),
        ),
        migrations.AddField(
            model_name="platformcredential",
            name="monthly_webhook_quota",
            field=models.PositiveIntegerField(
                blank=True,
                db_default=0,
                default=0,
                help_text="DingTalk's Standard edition: 3,000, questions and answers together. 0: no limit is watched.",
                verbose_name="monthly webhook and Stream calls",
            ),
        ),
    ]
