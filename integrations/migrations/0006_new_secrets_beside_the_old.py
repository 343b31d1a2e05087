"""While a secret is changed, the new one stands beside the old; since when a secret is there."""
import clawdbot_site.security.fields
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('integrations', '0005_event_keys_of_both_platforms'),
    ]

    operations = [
        migrations.AddField(
            model_name='platformcredential',
            name='next_app_secret',
            field=clawdbot_site.security.fields.EncryptedTextField(blank=True, db_default='', default='', editable=False, verbose_name='new app secret'),
        ),
        migrations.AddField(
            model_name='platformcredential',
            name='next_encrypt_key',
            field=clawdbot_site.security.fields.EncryptedTextField(blank=True, db_default='', default='', editable=False, verbose_name='new encrypt key'),
        ),
        migrations.AddField(
            model_name='platformcredential',
            name='next_entered_at',
            field=models.DateTimeField(editable=False, null=True, verbose_name='new secret entered'),
        ),
        migrations.AddField(
            model_name='platformcredential',
            name='next_error',
            field=models.CharField(blank=True, db_default='', default='', editable=False, max_length=300, verbose_name='why the new secret was refused'),
        ),
        migrations.AddField(
            model_name='platformcredential',
            name='next_heard_at',
            field=models.DateTimeField(editable=False, null=True, verbose_name='first callback by the new secret'),
        ),
        migrations.AddField(
            model_name='platformcredential',
            name='next_proved_at',
            field=models.DateTimeField(editable=False, null=True, verbose_name='new secret proved'),
        ),
        migrations.AddField(
            model_name='platformcredential',
            name='next_retires_at',
            field=models.DateTimeField(editable=False, null=True, verbose_name='old secret retires'),
        ),
        migrations.AddField(
            model_name='platformcredential',
            name='next_verification_token',
            field=clawdbot_site.security.fields.EncryptedTextField(blank=True, db_default='', default='', editable=False, verbose_name='new verification token'),
        ),
        migrations.AddField(
            model_name='platformcredential',
            name='secret_set_at',
            field=models.DateTimeField(editable=False, null=True, verbose_name='secret set'),
        ),
    ]
