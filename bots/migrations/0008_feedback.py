"""What people think of answers, and the index by which a click finds the answer it means."""

import django.db.models.deletion
import django.utils.timezone
import monitoring.ids
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('bots', '0007_chats_and_access'),
    ]

    operations = [
        migrations.CreateModel(
            name='Feedback',
            fields=[
                ('id', models.UUIDField(default=monitoring.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ('user_id', models.CharField(max_length=200, verbose_name='person')),
                ('vote', models.CharField(choices=[('up', 'helpful'), ('down', 'not helpful')], max_length=4, verbose_name='vote')),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, verbose_name='given')),
                ('updated_at', models.DateTimeField(auto_now=True, verbose_name='changed')),
            ],
            options={
                'verbose_name': 'feedback',
                'verbose_name_plural': 'feedback',
                'ordering': ['-created_at'],
            },
        ),
        migrations.AddIndex(
            model_name='deliverystep',
            index=models.Index(condition=models.Q(('remote_id', ''), _negated=True), fields=['remote_id'], name='step_of_remote'),
        ),
        migrations.AddField(
            model_name='feedback',
            name='reply',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='feedback', to='bots.message', verbose_name='answer'),
        ),
        migrations.AddIndex(
            model_name='feedback',
            index=models.Index(fields=['-created_at', '-id'], name='feedback_newest'),
        ),
        migrations.AddConstraint(
            model_name='feedback',
            constraint=models.UniqueConstraint(fields=('reply', 'user_id'), name='one_vote_per_person'),
        ),
    ]
