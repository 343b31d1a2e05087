"""Since when a key signs: it is made long before, and its age must not count from then."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("security", "0005_longer_names_of_wrapping_keys")]

    operations = [
        migrations.AddField(
            model_name="signingkey",
            name="signs_since",
            field=models.DateTimeField(editable=False, null=True, verbose_name="signs since"),
        ),
    ]
