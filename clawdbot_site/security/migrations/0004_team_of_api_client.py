import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('security', '0003_second_factor'),
    ]

    operations = [
        migrations.AddField(
            model_name='apiclient',
            name='team',
            field=models.ForeignKey(blank=True, help_text='It sees what this team owns, and what no team owns. Empty: everything.', null=True, on_delete=django.db.models.deletion.PROTECT, to='security.team', verbose_name='team'),
        ),
    ]
