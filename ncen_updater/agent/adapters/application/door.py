"""The door: a file whose presence keeps officers out.

The web server in front looks for it at every request, so the door stays as it is through crashes
and restarts of everything else. What is in it is for the maintenance page and for people.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from ncen_updater.agent.model.errors import ApplicationError
from ncen_updater.common import atomic_files as durable
from ncen_updater.common.bounded_io import parse_json
from ncen_updater.common.messages import DOOR_STUCK

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DoorNote:
    """Why the door is closed.

    Attributes:
        reason: In plain words, for the maintenance page.
        change: Id of the change.
        version: Release that the site is going to.
    """

    reason: str = "The application is being upgraded."
    change: str = ""
    version: str = ""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Door:
    """The file and what is written into it.

    Args:
        path: The file.
        note: Asked for the reason each time the door is closed.
        now: The wall clock, for ``since``.
    """

    def __init__(
        self,
        path: Path,
        note: Callable[[], DoorNote] = DoorNote,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._path = path
        self._note = note
        self._now = now

    def close(self) -> None:
        """Write the file; the time since when stays that of the first writing.

        Raises:
            DoorStuck: If it cannot be written.
        """
        try:
            since = self._since() or self._now().isoformat(timespec="seconds")
            content = {"since": since, **asdict(self._note())}
            with durable.writing(self._path) as stream:
                # The web server and the application read it, whatever the agent's mask.
                os.fchmod(stream.fileno(), 0o644)
                stream.write((json.dumps(content, ensure_ascii=False) + "\n").encode())
        except OSError as error:
            raise ApplicationError(DOOR_STUCK, path=self._path, detail=str(error)) from error
        logger.info("door closed")

    def open(self) -> None:
        """Remove the file.

        Raises:
            DoorStuck: If it cannot be removed.
        """
        try:
            durable.remove(self._path)
        except OSError as error:
            raise ApplicationError(DOOR_STUCK, path=self._path, detail=str(error)) from error
        logger.info("door opened")

    def closed(self) -> bool:
        """Whether the file is there, whatever is in it.

        Raises:
            DoorStuck: If that cannot be seen.
        """
        try:
            self._path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise ApplicationError(DOOR_STUCK, path=self._path, detail=str(error)) from error
        return True

    def closed_by(self) -> str:
        """The change that is named in the file; empty where there is no file or it names none.

        Raises:
            DoorStuck: If it cannot be read.
        """
        try:
            return self._said("change") or ""
        except OSError as error:
            raise ApplicationError(DOOR_STUCK, path=self._path, detail=str(error)) from error

    def _since(self) -> str | None:
        return self._said("since")

    def _said(self, name: str) -> str | None:
        try:
            value = parse_json(self._path.read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        said = value.get(name) if isinstance(value, dict) else None
        return said if isinstance(said, str) else None
