"""Alerts can be acknowledged and silenced, and their rules set."""

import django.core.serializers.json
import django.core.validators
import monitoring.ids
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('monitoring', '0005_rollups_and_heartbeats'),
    ]

    operations = [
        migrations.AddField(
            model_name='alert',
            name='acknowledged_at',
            field=models.DateTimeField(blank=True, null=True, verbose_name='acknowledged'),
        ),
        migrations.AddField(
            model_name='alert',
            name='acknowledged_by',
            field=models.CharField(blank=True, db_default='', default='', max_length=200, verbose_name='acknowledged by'),
        ),
        migrations.AddField(
            model_name='alert',
            name='told',
            field=models.JSONField(default=dict, editable=False, encoder=django.core.serializers.json.DjangoJSONEncoder, null=True, verbose_name='told'),
        ),
        migrations.CreateModel(
            name='AlertRule',
            fields=[
                ('name', models.CharField(editable=False, max_length=100, primary_key=True, serialize=False, verbose_name='rule')),
                ('is_enabled', models.BooleanField(default=True, verbose_name='enabled')),
                ('threshold', models.FloatField(blank=True, help_text='Empty: the default.', null=True, validators=[django.core.validators.MinValueValidator(0)], verbose_name='threshold')),
                ('for_s', models.PositiveIntegerField(blank=True, help_text='How long it must hold before the alert opens. Empty: the default.', null=True, validators=[django.core.validators.MaxValueValidator(86400)], verbose_name='for so long, seconds')),
                ('severity', models.CharField(blank=True, choices=[('warning', 'warning'), ('critical', 'critical')], help_text='Empty: the default.', max_length=16, verbose_name='severity')),
            ],
            options={
                'verbose_name': 'alert rule',
                'verbose_name_plural': 'alert rules',
                'ordering': ['name'],
            },
        ),
        migrations.CreateModel(
            name='Silence',
            fields=[
                ('id', models.UUIDField(default=monitoring.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('rule', models.CharField(blank=True, help_text='Empty: all rules.', max_length=100, verbose_name='rule')),
                ('subject', models.CharField(blank=True, help_text='As the alert shows it. Empty: all subjects.', max_length=200, verbose_name='subject')),
                ('until', models.DateTimeField(verbose_name='until')),
                ('reason', models.CharField(max_length=500, verbose_name='reason')),
                ('created_by', models.CharField(blank=True, editable=False, max_length=200, verbose_name='created by')),
                ('created_at', models.DateTimeField(auto_now_add=True, verbose_name='created at')),
            ],
            options={
                'verbose_name': 'silence',
                'verbose_name_plural': 'silences',
                'ordering': ['-until', '-id'],
            },
        ),
    ]
