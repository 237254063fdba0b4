"""Settings of the release; those of the site come from its environment variables."""

import os
from pathlib import Path

VERSION = (Path(__file__).parents[1] / "VERSION").read_text("utf-8").strip()
SECRET_KEY = os.environ.get("REGISTER_SECRET", "only for migrations")
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "register.urls"
INSTALLED_APPS = ["seizures"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
# The agent's copies replace this whole entry: bin/ncen-migrate.
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": os.environ.get("REGISTER_DB", ""),
        "HOST": os.environ.get("REGISTER_DB_HOST", ""),
        "PORT": os.environ.get("REGISTER_DB_PORT", ""),
        "USER": "register",
    }
}
