"""The few settings that ``status`` needs, read without the models.

They are validated as strictly as in the complete configuration; other settings are not validated.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path
from typing import Any

from ncen_updater.agent.config.errors import INVALID, InvalidConfigError, InvalidSetting
from ncen_updater.agent.config.raw_config import RawConfig, read_raw_config
from ncen_updater.agent.config.setting_lines import find_line
from ncen_updater.common.i18n import N_, LazyText

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
    mistakes: list[InvalidSetting] = []
    texts = {
        name: _read_text(raw, ("paths", name), default, mistakes)
        for name, default in DEFAULT_PATHS.items()
    }
    site = {
        name: _read_text(
            raw, ("site", name), DEFAULT_PRODUCT if name == "product" else None, mistakes, pattern
        )
        for name, pattern in SITE_PATTERNS.items()
    }
    root = Path(texts["root"])
    if not root.is_absolute():
        remedy = LazyText(N_("Write the absolute path, beginning with /."))
        mistakes.append(_make_invalid_setting(raw, ("paths", "root"), INVALID, remedy))
    feed_state = _read_text(raw, ("paths", "feed_state"), texts["state"], mistakes)
    ignored = {"site.id", "site.country"} if ignore_site_errors else set()
    if any(mistake.setting not in ignored for mistake in mistakes):
        raise InvalidConfigError(path, mistakes)
    return EssentialSettings(
        state=root / texts["state"],
        feed_state=root / feed_state,
        slots=root / texts["slots"],
        current=root / texts["current"],
        product=site["product"],
        site_id=site["id"],
        country=site["country"],
        config_path=path,
    )


def read_service_socket(path: Path) -> Path:
    """Return the path of the service's socket.

    Raises:
        ConfigError: As :func:`ncen_updater.agent.config.loader.load_config`, for these settings.
    """
    root, socket = _read_settings(
        path, (("paths", "root"), "/"), (("service", "api_socket"), DEFAULT_SOCKET)
    )
    return Path(root) / socket


def read_viewer_group(path: Path | None) -> str:
    """Return the group of viewers; without a file, the package's default.

    Raises:
        ConfigError: As :func:`ncen_updater.agent.config.loader.load_config`, for these settings.
    """
    if path is None:
        return DEFAULT_GROUP
    return _read_settings(path, (("service", "viewer_group"), DEFAULT_GROUP))[0]


def read_site_timezone(path: Path) -> tzinfo | None:
    """Return the time zone of the site; None for the machine's own.

    Raises:
        ConfigError: As :func:`ncen_updater.agent.config.loader.load_config`, for these settings.
    """
    [name] = _read_settings(path, (("service", "timezone"), ""))
    if not name:
        return None
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # not needed by 'status'

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        remedy = LazyText(
            N_("Use a name listed by timedatectl list-timezones, such as Africa/Nairobi.")
        )
        mistake = _make_invalid_setting(
            read_raw_config(path), ("service", "timezone"), INVALID, remedy
        )
        raise InvalidConfigError(path, [mistake]) from error


def _read_settings(path: Path, *wanted: tuple[tuple[str, str], str]) -> list[str]:
    """Return the values of some settings, or their defaults."""
    raw, mistakes = read_raw_config(path), list[InvalidSetting]()
    values = [_read_text(raw, setting, default, mistakes) for setting, default in wanted]
    if mistakes:
        raise InvalidConfigError(path, mistakes)
    return values


def _read_text(
    raw: RawConfig,
    setting: tuple[str, str],
    default: str | None,
    mistakes: list[InvalidSetting],
    pattern: str | None = None,
) -> str:
    table: Any = raw.data.get(setting[0], {})
    if not isinstance(table, dict):
        remedy = LazyText(N_("Write it as a table: [{setting}]"), {"setting": setting[0]})
        mistake = _make_invalid_setting(raw, setting[:1], INVALID, remedy)
        if mistake not in mistakes:
            mistakes.append(mistake)
        return default or ""
    value = table.get(setting[1], default)
    if value is None:
        remedy = LazyText(N_("Add it to the table [{table}]."), {"table": setting[0]})
        mistakes.append(_make_invalid_setting(raw, setting, LazyText(N_("is missing.")), remedy))
    elif not isinstance(value, str):
        remedy = LazyText(N_("Put the value in quotes."))
        mistakes.append(_make_invalid_setting(raw, setting, INVALID, remedy))
    elif pattern and not re.fullmatch(pattern, value):
        remedy = LazyText(N_("See docs/reference/configuration.md."))
        mistakes.append(_make_invalid_setting(raw, setting, INVALID, remedy))
    elif "\0" in value:
        remedy = LazyText(N_("Remove the NUL character."))
        mistakes.append(_make_invalid_setting(raw, setting, INVALID, remedy))
    else:
        return value
    return default or ""


def _make_invalid_setting(
    raw: RawConfig, setting: tuple[str, ...], problem: LazyText, remedy: LazyText
) -> InvalidSetting:
    return InvalidSetting(find_line(raw.lines, setting), ".".join(setting), problem, remedy)
