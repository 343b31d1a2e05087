"""Words only: DingTalk's events have a token and a key as well."""

from django.db import migrations

import clawdbot_site.security.fields


class Migration(migrations.Migration):
    dependencies = [("integrations", "0004_group_robots")]

    operations = [
        migrations.AlterField(
            model_name="platformcredential",
            name="verification_token",
            field=clawdbot_site.security.fields.EncryptedTextField(
                blank=True,
                help_text="Of the event settings. DingTalk: only if events are to come over HTTP.",
                verbose_name="verification token",
            ),
        ),
        migrations.AlterField(
            model_name="platformcredential",
            name="encrypt_key",
            field=clawdbot_site.security.fields.EncryptedTextField(
                blank=True,
                help_text="Of the event settings. DingTalk: only if events are to come over HTTP.",
                verbose_name="encrypt key",
            ),
        ),
    ]
