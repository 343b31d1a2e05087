import clawdbot_site.security.fields
import django.db.models.deletion
import uuid
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('security', '0002_iprule_trial_and_automatic'),
    ]

    operations = [
        migrations.AddField(
            model_name='user',
            name='sign_outs',
            field=models.PositiveIntegerField(db_default=0, default=0, editable=False, help_text='Another number ends every session and refresh token.'),
        ),
        migrations.CreateModel(
            name='RecoveryCode',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('digest', models.CharField(editable=False, max_length=64)),
                ('used_at', models.DateTimeField(editable=False, null=True, verbose_name='used at')),
                ('user', models.ForeignKey(editable=False, on_delete=django.db.models.deletion.CASCADE, related_name='recovery_codes', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'verbose_name': 'recovery code',
                'verbose_name_plural': 'recovery codes',
                'default_permissions': (),
                'constraints': [models.UniqueConstraint(fields=('user', 'digest'), name='security_recoverycode_once')],
            },
        ),
        migrations.CreateModel(
            name='SecondFactor',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('secret', clawdbot_site.security.fields.EncryptedTextField(blank=True, default='', editable=False)),
                ('pending_secret', clawdbot_site.security.fields.EncryptedTextField(blank=True, default='', editable=False)),
                ('confirmed_at', models.DateTimeField(editable=False, null=True, verbose_name='set up')),
                ('last_used_at', models.DateTimeField(editable=False, null=True, verbose_name='last used')),
                ('last_step', models.BigIntegerField(default=0, editable=False)),
                ('user', models.OneToOneField(editable=False, on_delete=django.db.models.deletion.CASCADE, related_name='second_factor', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'verbose_name': 'second factor',
                'verbose_name_plural': 'second factors',
                'default_permissions': (),
                'constraints': [models.CheckConstraint(condition=models.Q(('id', models.F('user_id'))), name='security_secondfactor_own_key')],
            },
        ),
    ]
