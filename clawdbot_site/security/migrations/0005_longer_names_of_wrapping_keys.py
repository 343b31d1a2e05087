"""The ids of key-encryption keys that a Vault keeps are longer: name and version."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("security", "0004_team_of_api_client")]

    operations = [
        migrations.AlterField(
            model_name="datakey",
            name="kek_id",
            field=models.CharField(editable=False, max_length=100, verbose_name="wrapped by"),
        ),
    ]
