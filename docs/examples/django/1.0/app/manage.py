#!/usr/bin/env python3
"""Django's own program, for developers; the agent does not use it."""

import os
import sys

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "register.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
