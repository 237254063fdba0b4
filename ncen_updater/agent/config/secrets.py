"""Secret values in the configuration. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

#: Tables with free-form values, which may be passwords.
FREE_FORM_TABLES = frozenset({"environment", "health_headers", "migrator_environment"})
#: Shorter values ("1", "en", "yes") are not treated as secrets: masking them would garble logs.
MIN_SECRET_LENGTH = 6


def find_secrets(data: Mapping[str, Any]) -> frozenset[str]:
    """Return the texts that must not appear in logs and support bundles.

    Args:
        data: The configuration as parsed. Secrets are passwords in addresses, and all values of
            tables of environment variables or headers.
    """
    return frozenset(
        text for text in _iter_secrets(data, free=False) if len(text) >= MIN_SECRET_LENGTH
    )


def _iter_secrets(value: object, *, free: bool) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _iter_secrets(inner, free=free or name in FREE_FORM_TABLES)
    elif isinstance(value, str):
        if free:
            yield value
        yield from _iter_url_passwords(value)
    elif isinstance(value, Sequence):
        for inner in value:
            yield from _iter_secrets(inner, free=free)


def _iter_url_passwords(text: str) -> Iterator[str]:
    if "://" not in text or "@" not in text:
        return
    try:
        password = urlsplit(text).password
    except ValueError:
        return
    if password:
        yield password
        yield unquote(password)


def strip_credentials(value: object) -> object:
    """Return a value of the configuration without user name and password of an address."""
    if not isinstance(value, str) or "://" not in value or "@" not in value:
        return value
    try:
        parts = urlsplit(value)
    except ValueError:
        return value.partition("://")[0] + "://"
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
