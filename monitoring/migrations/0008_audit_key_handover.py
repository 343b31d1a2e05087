"""How one audit key handed over to the next."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("monitoring", "0007_alert_channels")]

    operations = [
        migrations.AddField(
            model_name="auditkey",
            name="handover",
            field=models.TextField(blank=True, db_default="", default="", editable=False),
        ),
        migrations.AddField(
            model_name="auditkey",
            name="handover_signature",
            field=models.CharField(blank=True, db_default="", default="", editable=False, max_length=128),
        ),
    ]
