"""Add the office of a seizure; all earlier seizures were made at the airport."""

from django.db import migrations, models


class Migration(migrations.Migration):
    """As `manage.py makemigrations` wrote it; the default is the database's own."""

    dependencies = [("seizures", "0001_first")]
    operations = [
        migrations.AddField(
            "seizure",
            "office",
            models.CharField(max_length=50, db_default="airport"),
        )
    ]
