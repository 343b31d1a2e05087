"""What was read from files, and which model people chose."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('bots', '0008_feedback'),
        ('inference', '0001_initial'),
    ]

    operations = [
        migrations.CreateModel(
            name='MessageFile',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('position', models.PositiveSmallIntegerField(verbose_name='position')),
                ('kind', models.CharField(choices=[('image', 'image'), ('document', 'document')], max_length=10, verbose_name='kind')),
                ('name', models.CharField(blank=True, max_length=200, verbose_name='name')),
                ('text', models.TextField(blank=True, verbose_name='text')),
                ('image', models.BinaryField(null=True)),
                ('problem', models.CharField(blank=True, max_length=40, verbose_name='problem')),
                ('created_at', models.DateTimeField(auto_now_add=True, verbose_name='read')),
            ],
            options={
                'verbose_name': 'file',
                'verbose_name_plural': 'files',
                'ordering': ['position'],
            },
        ),
        migrations.AddField(
            model_name='bot',
            name='choosable_models',
            field=models.ManyToManyField(blank=True, help_text='People choose one for their conversation with /model. Empty: there is no choice.', related_name='offered_by', to='inference.languagemodel', verbose_name='models to choose from'),
        ),
        migrations.AddField(
            model_name='conversation',
            name='chosen_model',
            field=models.ForeignKey(blank=True, db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='inference.languagemodel', verbose_name='chosen model'),
        ),
        migrations.AddField(
            model_name='messagefile',
            name='message',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='files', to='bots.message', verbose_name='message'),
        ),
        migrations.AddIndex(
            model_name='messagefile',
            index=models.Index(condition=models.Q(('image__isnull', False)), fields=['created_at'], name='image_to_forget'),
        ),
        migrations.AddConstraint(
            model_name='messagefile',
            constraint=models.UniqueConstraint(fields=('message', 'position'), name='one_file_per_position'),
        ),
    ]
