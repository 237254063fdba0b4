"""The command with which a person starts the application. Pure."""

from __future__ import annotations

import shlex

#: What stands for the value of a variable, which may be a password.
HIDDEN_VALUE = "…"


def format_start_command(unit: object, start: object, environment: object) -> str | None:
    """Return the command as it is typed; None where the settings have none.

    Args:
        unit: ``application.unit``.
        start: ``application.start``.
        environment: ``application.environment``, without which ``start`` may fail.
    """
    if isinstance(unit, str):
        return f"systemctl start {unit}"
    if not isinstance(start, list | tuple):
        return None
    names = environment if isinstance(environment, dict) else {}
    variables = ["env", *(f"{name}={HIDDEN_VALUE}" for name in names)] if names else []
    return " ".join((*variables, shlex.join(map(str, start))))
