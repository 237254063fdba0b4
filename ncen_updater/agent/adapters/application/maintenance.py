"""Maintenance file: while it exists, the web server shows the maintenance page.

The web server in front checks for it at every request, so the maintenance page survives crashes and
restarts of everything else. The content is shown on the page and helps an operator.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from ncen_updater.agent.model.errors import ApplicationError
from ncen_updater.common import atomic_files as durable
from ncen_updater.common.bounded_io import parse_json
from ncen_updater.common.messages import MAINTENANCE_FILE_STUCK

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MaintenanceNote:
    """Reason why the maintenance page is on.

    Attributes:
        reason: Text for the maintenance page.
        change: Id of the change.
        version: Target release of the change.
    """

    reason: str = "The application is being upgraded."
    change: str = ""
    version: str = ""


def _get_utc_now() -> datetime:
    return datetime.now(UTC)


class MaintenanceFile:
    """The maintenance file and its content.

    Args:
        path: The file.
        note: Returns the reason; called whenever the maintenance page is switched on.
        now: The wall clock, for ``since``.
    """

    def __init__(
        self,
        path: Path,
        note: Callable[[], MaintenanceNote] = MaintenanceNote,
        now: Callable[[], datetime] = _get_utc_now,
    ) -> None:
        self._path = path
        self._note = note
        self._now = now

    def write(self) -> None:
        """Write the file; its start time stays that of the first write.

        Raises:
            MAINTENANCE_FILE_STUCK: If it cannot be written.
        """
        with self._report_errors():
            since = self._read_field("since") or self._now().isoformat(timespec="seconds")
            content = {"since": since, **asdict(self._note())}
            with durable.open_for_replace(self._path) as stream:
                # Readable for web server and application, whatever the agent's umask.
                os.fchmod(stream.fileno(), 0o644)
                stream.write((json.dumps(content, ensure_ascii=False) + "\n").encode())
        logger.info("maintenance page on")

    def remove(self) -> None:
        """Remove the file.

        Raises:
            MAINTENANCE_FILE_STUCK: If it cannot be removed.
        """
        with self._report_errors():
            durable.remove_file(self._path)
        logger.info("maintenance page off")

    def exists(self) -> bool:
        """Tell whether the file exists, whatever its content.

        Raises:
            MAINTENANCE_FILE_STUCK: If this cannot be determined.
        """
        with self._report_errors():
            try:
                self._path.lstat()
            except (FileNotFoundError, NotADirectoryError):
                return False
        return True

    def read_change(self) -> str:
        """Return the id of the change in the maintenance file.

        Empty if there is no file, or it names no change.

        Raises:
            MAINTENANCE_FILE_STUCK: If it cannot be read.
        """
        with self._report_errors():
            return self._read_field("change") or ""

    @contextlib.contextmanager
    def _report_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ApplicationError(
                MAINTENANCE_FILE_STUCK, path=self._path, detail=str(error)
            ) from error

    def _read_field(self, name: str) -> str | None:
        try:
            value = parse_json(self._path.read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        given_value = value.get(name) if isinstance(value, dict) else None
        return given_value if isinstance(given_value, str) else None
