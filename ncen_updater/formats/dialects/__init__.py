"""SQL dialects of the database engines, for the one reader of SQL: a module and a line each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ncen_updater.formats.dialects import postgresql, sqlite
from ncen_updater.formats.dialects.base import SqlDialect

__all__ = ["DIALECTS"]

#: Name in manifests and in paths of releases, to dialect.
DIALECTS: Final[Mapping[str, SqlDialect]] = {
    "postgresql": postgresql.POSTGRESQL,
    "sqlite": sqlite.SQLITE,
}
