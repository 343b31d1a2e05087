"""Groups and how a bot behaves in each of them; who may talk to a bot."""

import django.db.models.deletion
import django.utils.timezone
import monitoring.ids
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('bots', '0006_message_conversation_index'),
    ]

    operations = [
        migrations.CreateModel(
            name='Chat',
            fields=[
                ('id', models.UUIDField(default=monitoring.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('chat_id', models.CharField(help_text='As the platform names it.', max_length=200, verbose_name='group ID')),
                ('name', models.CharField(blank=True, max_length=200, verbose_name='name')),
                ('group_policy', models.CharField(blank=True, choices=[('mention', 'only when mentioned'), ('all', 'every message'), ('silent', 'never')], help_text='When the bot answers here. Empty: as the bot is set.', max_length=10, verbose_name='in this group')),
                ('left_at', models.DateTimeField(blank=True, editable=False, null=True, verbose_name='left')),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False, verbose_name='known since')),
            ],
            options={
                'verbose_name': 'chat group',
                'verbose_name_plural': 'chat groups',
                'ordering': ['-created_at'],
            },
        ),
        migrations.AddField(
            model_name='bot',
            name='access',
            field=models.CharField(choices=[('everyone', 'everyone'), ('listed', 'only who is listed')], db_default='everyone', default='everyone', max_length=10, verbose_name='who may talk to it'),
        ),
        migrations.AddField(
            model_name='bot',
            name='allowed_chats',
            field=models.JSONField(blank=True, db_default=models.Value([], models.JSONField()), default=list, verbose_name='groups that may talk to it'),
        ),
        migrations.AddField(
            model_name='bot',
            name='allowed_departments',
            field=models.JSONField(blank=True, db_default=models.Value([], models.JSONField()), default=list, verbose_name='departments that may talk to it'),
        ),
        migrations.AddField(
            model_name='bot',
            name='allowed_users',
            field=models.JSONField(blank=True, db_default=models.Value([], models.JSONField()), default=list, verbose_name='persons who may talk to it'),
        ),
        migrations.AddField(
            model_name='endpoint',
            name='chat_policies',
            field=models.JSONField(db_default=models.Value({}, models.JSONField()), default=dict, editable=False, help_text='Group -> policy, of the groups that have one of their own: a copy of their rows, for the door.'),
        ),
        migrations.AlterField(
            model_name='bot',
            name='group_policy',
            field=models.CharField(choices=[('mention', 'only when mentioned'), ('all', 'every message'), ('silent', 'never')], default='mention', max_length=10, verbose_name='in groups'),
        ),
        migrations.AddField(
            model_name='chat',
            name='endpoint',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='chats', to='bots.endpoint', verbose_name='endpoint'),
        ),
        migrations.AddIndex(
            model_name='chat',
            index=models.Index(fields=['-created_at', '-id'], name='chat_newest'),
        ),
        migrations.AddConstraint(
            model_name='chat',
            constraint=models.UniqueConstraint(fields=('endpoint', 'chat_id'), name='one_row_per_chat', violation_error_message='This group is listed already.'),
        ),
    ]
