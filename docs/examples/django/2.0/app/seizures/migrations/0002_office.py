"""Where a seizure was made; those of before were all made at the airport."""

from django.db import migrations, models


class Migration(migrations.Migration):
    """As `manage.py makemigrations` wrote it, with a default for the rows that are there."""

    dependencies = [("seizures", "0001_first")]
    operations = [
        migrations.AddField(
            "seizure",
            "office",
            models.CharField(max_length=50, default="airport"),
            preserve_default=False,
        )
    ]
