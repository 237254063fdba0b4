"""One table."""

from django.db import models


class Seizure(models.Model):
    """What was seized, as a user entered it."""

    what = models.CharField(max_length=200)
    entered = models.DateTimeField(auto_now_add=True)
