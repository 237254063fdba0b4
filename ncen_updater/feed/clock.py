"""Clock of expiry, never earlier than the newest signed time, and a check of the system clock."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.bounded_io import (
    FileTooLargeError,
    NotRegularFileError,
    parse_json,
    read_file,
)
from ncen_updater.common.cli.render import format_time
from ncen_updater.common.findings import Finding, Severity, make_finding
from ncen_updater.common.i18n import N_
from ncen_updater.common.json_records import JsonRecord
from ncen_updater.common.messages import LOCAL_STORE_FAILED
from ncen_updater.feed.errors import TrustError

logger = logging.getLogger(__name__)

# Signing machines and sites do not agree to the minute.
BEHIND_ADVISORY = timedelta(minutes=10)
BEHIND_STRICT = timedelta(days=1)
AHEAD_ADVISORY = timedelta(days=400)
MAX_FLOOR_BYTES = 10_000


def get_system_time() -> datetime:
    """Return the system time in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class _ClockFloor(JsonRecord):
    """What the file holds."""

    floor: datetime


class TrustClock:
    """The later of the system clock and a floor that only rises.

    A machine whose clock is years behind would otherwise accept metadata that lapsed long ago. The
    floor comes from metadata under offline threshold keys and survives restarts.

    Args:
        path: Where the floor is kept.
        now: The system clock; tests pass their own.
    """

    def __init__(self, path: Path, now: Callable[[], datetime] = get_system_time) -> None:
        self._path = path
        self.now = now

    @property
    def floor(self) -> datetime | None:
        """Return the newest signed time ever seen, UTC; None if there is none.

        A damaged file counts as none: the next verified list, whose signed time is compared again
        after it was loaded, restores the floor.

        Raises:
            LOCAL_STORE_FAILED: If the file is there and may not be read.
        """
        try:
            return _ClockFloor.from_json(parse_json(read_file(self._path, MAX_FLOOR_BYTES))).floor
        except FileNotFoundError:
            return None
        except (ValueError, NotRegularFileError, FileTooLargeError) as error:
            logger.warning("clock floor %s is damaged and counts as absent: %s", self._path, error)
            return None
        except OSError as error:
            raise TrustError(LOCAL_STORE_FAILED, detail=str(error)) from error

    def get_reference_time(self) -> datetime:
        """Return the time against which expiry is checked."""
        now, floor = self.now(), self.floor
        return now if floor is None else max(now, floor)

    def raise_floor(self, moment: datetime) -> None:
        """Keep a signed time; an earlier one than the floor changes nothing."""
        floor = self.floor
        if floor is None or moment > floor:
            durable.make_directory(self._path.parent)
            text = json.dumps(_ClockFloor(moment.astimezone(UTC)).to_json())
            durable.write_file(self._path, text.encode())


def clock_findings(
    now: datetime, newest: datetime | None, zone: tzinfo | None
) -> tuple[Finding, ...]:
    """Return NU-6311 where the clock is behind what was signed, NU-6312 where it is far ahead.

    Args:
        now: What it shows.
        newest: The newest time in what was signed; None where there is none yet.
        zone: Zone in which people read times.
    """
    if newest is None or -AHEAD_ADVISORY <= newest - now <= BEHIND_ADVISORY:
        return ()
    values: dict[str, object] = {
        "now": format_time(now, zone), "signed": format_time(newest, zone)
    }  # fmt: skip
    if newest > now:
        return (
            make_finding(
                "NU-6311",
                Severity.CRITICAL if newest - now > BEHIND_STRICT else Severity.WARNING,
                N_("System clock behind: {now}, metadata signed at {signed}"),
                N_("Set the clock: timedatectl set-ntp true"),
                **values,
            ),
        )
    return (
        make_finding(
            "NU-6312",
            Severity.WARNING,
            N_("System clock {now} is far ahead of the newest metadata ({signed})"),
            N_("Check the clock; if it is correct, run: ncen-updater check"),
            **values,
        ),
    )
