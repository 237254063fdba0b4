"""Takes secrets and addresses out of what goes into a bundle. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence, Set

__all__ = ["MASK", "mask_settings", "mask_text"]

MASK = "***"
#: Settings whose value is an address, a name of a machine or a person, or a secret.
HIDDEN = frozenset(
    {"host", "sender", "to", "user", "url", "urls", "proxy", "health_url", "environment",
     "health_headers", "migrator_environment", "password_credential", "secret_credential"}
)  # fmt: skip
#: Tables whose names the site chooses.
CHOSEN = frozenset({"names"})
#: Command lines: an argument may be a password, the program is none.
COMMANDS = frozenset({"start", "stop", "status", "version_command"})
ADDRESS = re.compile(r"\b(https?|postgres(?:ql)?|smtps?)://[^\s\"'<>]+")
MAIL = re.compile(r"(?<![\w.%+-])[\w.%+-]++@[\w-]+(\.[\w-]+)+")
NUMERIC = re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}\b")


def mask_text(text: str, secrets: Iterable[str] = ()) -> str:
    """Return text without secrets, addresses of the network, and mail addresses."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, MASK)
    text = ADDRESS.sub(rf"\1://{MASK}", text)
    text = MAIL.sub(MASK, text)
    return NUMERIC.sub(MASK, text)


def mask_settings(value: object, name: str = "", *, known: Set[str]) -> object:
    """Return a configuration without secrets and addresses; how many there are stays visible.

    A name that is no setting may be one of a password, written wrongly: its text is hidden.

    Args:
        value: A table, a list or a value of the file.
        name: Name of the setting.
        known: Names of settings.
    """
    if isinstance(value, Mapping):
        if name in HIDDEN:
            return {key: MASK for key in value}  # noqa: C420 - the keys stay in their order
        return {
            key: mask_settings(inner, name if name in CHOSEN else key, known=known)
            for key, inner in value.items()
        }
    if isinstance(value, Sequence) and not isinstance(value, str):
        if name in COMMANDS:
            return [mask_text(str(word)) if not at else MASK for at, word in enumerate(value)]
        return [mask_settings(inner, name, known=known) for inner in value]
    if isinstance(value, str):
        return MASK if name in HIDDEN or name not in known else mask_text(value)
    return value
