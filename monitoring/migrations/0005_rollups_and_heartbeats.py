"""What happened in each minute, which processes live, and which of them leads."""

import django.core.serializers.json
import monitoring.ids
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('monitoring', '0004_audit_seals_append_only'),
    ]

    operations = [
        migrations.CreateModel(
            name='Rollup',
            fields=[
                ('id', models.UUIDField(default=monitoring.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('minute', models.DateTimeField(verbose_name='minute')),
                ('process', models.CharField(blank=True, max_length=120, verbose_name='process')),
                ('sums', models.JSONField(default=dict, verbose_name='sums')),
                ('levels', models.JSONField(default=dict, verbose_name='levels')),
            ],
            options={
                'verbose_name': 'minute',
                'verbose_name_plural': 'minutes',
                'ordering': ['-minute', 'process'],
                'constraints': [models.UniqueConstraint(fields=('minute', 'process'), name='rollup_once')],
            },
        ),
        migrations.CreateModel(
            name='Heartbeat',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('process', models.CharField(max_length=120, unique=True, verbose_name='process')),
                ('role', models.CharField(max_length=20, verbose_name='role')),
                ('host', models.CharField(max_length=100, verbose_name='host')),
                ('started_at', models.DateTimeField(verbose_name='started at')),
                ('seen_at', models.DateTimeField(db_index=True, verbose_name='seen at')),
                ('facts', models.JSONField(default=dict, encoder=django.core.serializers.json.DjangoJSONEncoder, verbose_name='facts')),
            ],
            options={
                'verbose_name': 'process',
                'verbose_name_plural': 'processes',
                'ordering': ['role', 'process'],
            },
        ),
        migrations.CreateModel(
            name='Leader',
            fields=[
                ('name', models.CharField(max_length=50, primary_key=True, serialize=False, verbose_name='name')),
                ('owner', models.CharField(blank=True, max_length=120, verbose_name='owner')),
                ('until', models.DateTimeField(verbose_name='until')),
            ],
            options={
                'verbose_name': 'leader',
                'verbose_name_plural': 'leaders',
            },
        ),
    ]
