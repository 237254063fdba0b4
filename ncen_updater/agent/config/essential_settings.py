"""The few settings that ``status`` needs, read without the models.

They are validated as strictly as in the complete configuration; other settings are not validated.
If one is wrong, the complete configuration is validated, which reports all mistakes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path
from typing import Any, NoReturn

from ncen_updater.agent.config.raw_config import RawConfig, read_raw_config

# Must equal those of agent_config.py, which cannot be imported here; a test compares them.
DEFAULT_PATHS = {
    "root": "/",
    "state": "var/lib/ncen-updater",
    "slots": "opt/ncen/slots",
    "current": "opt/ncen/current",
}
SITE_PATTERNS = {
    "id": r"[A-Za-z0-9._-]{1,40}",
    "country": r"[A-Z]{2}",
    "product": r"[a-z][a-z0-9-]{0,40}",
}
DEFAULT_PRODUCT = "ncen"
DEFAULT_SOCKET = "run/ncen-updater/api.sock"
DEFAULT_GROUP = "ncen-updater"


@dataclass(frozen=True)
class EssentialSettings:
    """Paths and identity of the site.

    Attributes:
        state: Directory of the journal.
        feed_state: Directory of metadata and downloads.
        slots: Directory of the slots.
        current: Link to the slot in use.
        product: Product of the site.
        site_id: Id of the site.
        country: Country of the site.
        config_path: The configuration file.
    """

    state: Path
    feed_state: Path
    slots: Path
    current: Path
    product: str
    site_id: str
    country: str
    config_path: Path


def load_essential_settings(path: Path, *, ignore_site_errors: bool = False) -> EssentialSettings:
    """Read the paths and the identity of the site.

    Args:
        path: The configuration file.
        ignore_site_errors: Whether to ignore mistakes in the site's id or country, for callers
            that report them elsewhere; the values are empty then.

    Raises:
        ConfigError: As :func:`ncen_updater.agent.config.loader.load_config`, for these settings.
    """
    raw = read_raw_config(path)
    data = raw.data
    texts = {name: _find_text(data, "paths", name, text) for name, text in DEFAULT_PATHS.items()}
    texts["feed_state"] = _find_text(data, "paths", "feed_state", texts["state"])
    for name, pattern in SITE_PATTERNS.items():
        default = DEFAULT_PRODUCT if name == "product" else None
        texts[name] = _find_text(data, "site", name, default, pattern)
        if ignore_site_errors and name != "product":
            texts[name] = texts[name] or ""
    known = {name: text for name, text in texts.items() if text is not None}
    if known.keys() != texts.keys() or not Path(known["root"]).is_absolute():
        _report_mistakes(raw)
    root = Path(known["root"])
    return EssentialSettings(
        state=root / known["state"],
        feed_state=root / known["feed_state"],
        slots=root / known["slots"],
        current=root / known["current"],
        product=known["product"],
        site_id=known["id"],
        country=known["country"],
        config_path=path,
    )


def read_service_socket(path: Path) -> Path:
    """Return the path of the service's socket.

    Raises:
        ConfigError: As :func:`ncen_updater.agent.config.loader.load_config`, for these settings.
    """
    raw = read_raw_config(path)
    root = _read_setting(raw, "paths", "root", "/")
    return Path(root) / _read_setting(raw, "service", "api_socket", DEFAULT_SOCKET)


def read_viewer_group(path: Path | None) -> str:
    """Return the group of viewers; without a file, the package's default.

    Raises:
        ConfigError: As :func:`ncen_updater.agent.config.loader.load_config`, for these settings.
    """
    if path is None:
        return DEFAULT_GROUP
    return _read_setting(read_raw_config(path), "service", "viewer_group", DEFAULT_GROUP)


def read_site_timezone(path: Path) -> tzinfo | None:
    """Return the time zone of the site; None for the machine's own.

    Raises:
        ConfigError: As :func:`ncen_updater.agent.config.loader.load_config`, for these settings.
    """
    raw = read_raw_config(path)
    name = _read_setting(raw, "service", "timezone", "")
    if not name:
        return None
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # not needed by 'status'

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        _report_mistakes(raw)


def _read_setting(raw: RawConfig, table: str, name: str, default: str) -> str:
    found = _find_text(raw.data, table, name, default)
    return found if found is not None else _report_mistakes(raw)


def _find_text(
    data: Mapping[str, Any], table: str, name: str, default: str | None, pattern: str = r"[^\0]*"
) -> str | None:
    """Return a setting or its default; None if the setting is invalid."""
    settings = data.get(table, {})
    value = settings.get(name, default) if isinstance(settings, dict) else None
    return value if isinstance(value, str) and re.fullmatch(pattern, value) else None


def _report_mistakes(raw: RawConfig) -> NoReturn:
    # Its models take long to import. The file is not read again: it may be corrected meanwhile.
    from ncen_updater.agent.config.loader import validate_config

    validate_config(raw)
    raise AssertionError("the models accept a setting that was refused here")
