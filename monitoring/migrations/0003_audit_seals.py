"""Seals, checkpoints, their key and the sinks; and a mark on each entry, which only the running product can make."""

import django.utils.timezone
import monitoring.ids
from django.db import migrations, models

from monitoring import triggers


def install(apps, schema_editor):
    triggers.install(schema_editor)


def uninstall(apps, schema_editor):
    triggers.uninstall(schema_editor)


class Migration(migrations.Migration):

    dependencies = [
        ('monitoring', '0002_audit_append_only'),
    ]

    operations = [
        migrations.CreateModel(
            name='AuditCursor',
            fields=[
                ('name', models.CharField(max_length=40, primary_key=True, serialize=False)),
                ('position', models.DateTimeField()),
                ('passed_over', models.JSONField(blank=True, default=list)),
            ],
            options={
                'verbose_name': 'audit cursor',
                'verbose_name_plural': 'audit cursors',
            },
        ),
        migrations.CreateModel(
            name='AuditSeal',
            fields=[
                ('sequence', models.BigIntegerField(primary_key=True, serialize=False)),
                ('entry_id', models.UUIDField(unique=True)),
                ('state', models.PositiveSmallIntegerField(choices=[(0, 'written by ClawdBot'), (1, 'older than the marks'), (2, 'not written by ClawdBot'), (3, 'gone before it was sealed')], default=0)),
                ('hash', models.CharField(max_length=64)),
                ('mark', models.CharField(max_length=32)),
            ],
            options={
                'verbose_name': 'audit seal',
                'verbose_name_plural': 'audit seals',
                'base_manager_name': 'objects',
                'ordering': ['-sequence'],
            },
        ),
        migrations.CreateModel(
            name='AuditSink',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=200, unique=True, verbose_name='sink')),
                ('copied_through', models.BigIntegerField(default=0, verbose_name='copied through')),
                ('copied_at', models.DateTimeField(blank=True, null=True, verbose_name='copied')),
                ('failing_since', models.DateTimeField(blank=True, null=True, verbose_name='failing since')),
                ('error', models.CharField(blank=True, max_length=300, verbose_name='error')),
            ],
            options={
                'verbose_name': 'audit sink',
                'verbose_name_plural': 'audit sinks',
                'ordering': ['name'],
            },
        ),
        migrations.CreateModel(
            name='AuditWaiting',
            fields=[
                ('entry_id', models.UUIDField(primary_key=True, serialize=False)),
            ],
            options={
                'verbose_name': 'unsealed audit entry',
                'verbose_name_plural': 'unsealed audit entries',
            },
        ),
        migrations.CreateModel(
            name='AuditCheckpoint',
            fields=[
                ('number', models.BigIntegerField(primary_key=True, serialize=False)),
                ('kind', models.CharField(max_length=8, verbose_name='kind')),
                ('sequence', models.BigIntegerField(verbose_name='sealed through')),
                ('statement', models.TextField(help_text='Canonical JSON: what the signature covers.', verbose_name='statement')),
                ('signature', models.CharField(max_length=128, verbose_name='signature')),
                ('signed_at', models.DateTimeField(default=django.utils.timezone.now, verbose_name='signed')),
            ],
            options={
                'verbose_name': 'audit checkpoint',
                'verbose_name_plural': 'audit checkpoints',
                'base_manager_name': 'objects',
                'ordering': ['-number'],
                'constraints': [models.CheckConstraint(condition=models.Q(('kind__in', ['seal', 'purge'])), name='audit_known_checkpoint')],
            },
        ),
        migrations.CreateModel(
            name='AuditKey',
            fields=[
                ('id', models.UUIDField(default=monitoring.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('private', models.BinaryField()),
                ('public', models.CharField(help_text='32 bytes in hex.', max_length=64)),
                ('fingerprint', models.CharField(max_length=64, unique=True)),
                ('is_current', models.BooleanField(default=True)),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, verbose_name='created at')),
            ],
            options={
                'verbose_name': 'audit key',
                'verbose_name_plural': 'audit keys',
                'constraints': [models.UniqueConstraint(condition=models.Q(('is_current', True)), fields=('is_current',), name='audit_one_key')],
            },
        ),
        # SQLite makes the table anew to add a column, and its triggers are gone.
        migrations.RunPython(uninstall, install),
        migrations.AddField(
            model_name='auditlog',
            name='mark',
            field=models.CharField(blank=True, db_default='', default='', editable=False, max_length=32),
        ),
        migrations.RunPython(install, uninstall),
    ]
