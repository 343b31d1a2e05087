"""Where alerts are told, and each notice with what became of it."""

import django.core.serializers.json
import django.core.validators
import django.db.models.deletion
import django.utils.timezone
import monitoring.ids
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('monitoring', '0006_alert_rules_and_silences'),
    ]

    operations = [
        migrations.CreateModel(
            name='AlertChannel',
            fields=[
                ('id', models.UUIDField(default=monitoring.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('name', models.CharField(max_length=100, verbose_name='name')),
                ('kind', models.CharField(max_length=20, verbose_name='kind')),
                ('least_severity', models.CharField(choices=[('warning', 'warning'), ('critical', 'critical')], default='warning', max_length=16, verbose_name='from this severity on')),
                ('interval_s', models.PositiveIntegerField(default=60, help_text='Of one group of rules: what happens in between comes together in the next notice.', validators=[django.core.validators.MinValueValidator(15), django.core.validators.MaxValueValidator(86400)], verbose_name='seconds between notices')),
                ('remind_after_h', models.PositiveIntegerField(default=24, help_text='Of what is still open and that nobody has acknowledged. 0: never.', validators=[django.core.validators.MaxValueValidator(720)], verbose_name='remind after hours')),
                ('is_enabled', models.BooleanField(default=True, verbose_name='enabled')),
                ('sealed', models.BinaryField(default=b'', verbose_name='address and secret')),
                ('last_sent_at', models.DateTimeField(editable=False, null=True, verbose_name='last sent')),
                ('last_error', models.CharField(blank=True, editable=False, max_length=500, verbose_name='last error')),
                ('created_at', models.DateTimeField(auto_now_add=True, verbose_name='created at')),
            ],
            options={
                'verbose_name': 'alert channel',
                'verbose_name_plural': 'alert channels',
                'ordering': ['name'],
            },
        ),
        migrations.CreateModel(
            name='AlertNotice',
            fields=[
                ('id', models.UUIDField(default=monitoring.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('group', models.CharField(max_length=50, verbose_name='group')),
                ('title', models.CharField(max_length=200, verbose_name='title')),
                ('text', models.TextField(verbose_name='text')),
                ('payload', models.JSONField(default=dict, encoder=django.core.serializers.json.DjangoJSONEncoder, verbose_name='payload')),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, verbose_name='created at')),
                ('attempts', models.PositiveIntegerField(default=0, verbose_name='attempts')),
                ('next_attempt_at', models.DateTimeField(default=django.utils.timezone.now, null=True, verbose_name='next attempt')),
                ('sent_at', models.DateTimeField(null=True, verbose_name='sent')),
                ('error', models.CharField(blank=True, max_length=500, verbose_name='error')),
                ('channel', models.ForeignKey(editable=False, on_delete=django.db.models.deletion.CASCADE, related_name='notices', to='monitoring.alertchannel', verbose_name='channel')),
            ],
            options={
                'verbose_name': 'alert notice',
                'verbose_name_plural': 'alert notices',
                'ordering': ['-created_at', '-id'],
                'indexes': [models.Index(fields=['-created_at', '-id'], name='notice_newest'), models.Index(fields=['channel', 'group', '-created_at'], name='notice_of_group'), models.Index(condition=models.Q(('next_attempt_at__isnull', False)), fields=['next_attempt_at'], name='notice_due')],
            },
        ),
    ]
