"""Since when an API key is there, and by when it should be replaced."""
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('inference', '0005_worker_state'),
    ]

    operations = [
        migrations.AddField(
            model_name='languagemodel',
            name='rotate_by',
            field=models.DateField(blank=True, null=True, verbose_name='rotate by'),
        ),
        migrations.AddField(
            model_name='languagemodel',
            name='secret_set_at',
            field=models.DateTimeField(editable=False, null=True, verbose_name='secret set'),
        ),
        migrations.AddField(
            model_name='modelkey',
            name='rotate_by',
            field=models.DateField(blank=True, null=True, verbose_name='rotate by'),
        ),
        migrations.AddField(
            model_name='modelkey',
            name='secret_set_at',
            field=models.DateTimeField(editable=False, null=True, verbose_name='secret set'),
        ),
    ]
