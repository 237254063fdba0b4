"""The first table."""

from django.db import migrations, models


class Migration(migrations.Migration):
    """As `manage.py makemigrations` wrote it."""

    initial = True
    operations = [
        migrations.CreateModel(
            name="Seizure",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("what", models.CharField(max_length=200)),
                ("entered", models.DateTimeField(auto_now_add=True)),
            ],
        )
    ]
