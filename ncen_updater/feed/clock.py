"""Reference time for expiry, never before the newest signed time; checks of the system clock."""

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

# Clocks of signing machines and of sites may differ by minutes.
BEHIND_ADVISORY = timedelta(minutes=10)
BEHIND_STRICT = timedelta(days=1)
AHEAD_ADVISORY = timedelta(days=400)
MAX_FLOOR_BYTES = 10_000


def get_system_time() -> datetime:
    """Return the system time in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class _ClockFloor(JsonRecord):
    """Content of the clock file."""

    floor: datetime


class TrustClock:
    """The later of the system clock and a floor that never falls.

    Without the floor, a machine whose clock is years behind would accept metadata that expired long
    ago. The floor comes from metadata signed by a threshold of offline keys and survives restarts.

    Args:
        path: File that stores the floor.
        now: The system clock; tests pass their own.
    """

    def __init__(self, path: Path, now: Callable[[], datetime] = get_system_time) -> None:
        self._path = path
        self.now = now

    @property
    def floor(self) -> datetime | None:
        """Return the newest signed time seen, in UTC; None if there is none.

        A damaged file counts as absent. The next verified metadata restores the floor, and its
        signed time is compared with the clock after loading.

        Raises:
            LOCAL_STORE_FAILED: If the file exists but cannot be read.
        """
        try:
            return _ClockFloor.from_json(parse_json(read_file(self._path, MAX_FLOOR_BYTES))).floor
        except FileNotFoundError:
            return None
        except (ValueError, NotRegularFileError, FileTooLargeError) as error:
            logger.warning("clock floor %s is damaged and ignored: %s", self._path, error)
            return None
        except OSError as error:
            raise TrustError(LOCAL_STORE_FAILED, detail=str(error)) from error

    def get_reference_time(self) -> datetime:
        """Return the time against which expiry is checked."""
        now, floor = self.now(), self.floor
        return now if floor is None else max(now, floor)

    def raise_floor(self, moment: datetime) -> None:
        """Raise the floor to a signed time; do nothing if the time is not later than the floor."""
        floor = self.floor
        if floor is None or moment > floor:
            durable.make_directory(self._path.parent)
            text = json.dumps(_ClockFloor(moment.astimezone(UTC)).to_json())
            durable.write_file(self._path, text.encode())


def find_clock_findings(
    now: datetime, newest: datetime | None, zone: tzinfo | None
) -> tuple[Finding, ...]:
    """Return NU-6311 if the clock is behind the newest signed time, NU-6312 if it is far ahead.

    Args:
        now: Time of the system clock.
        newest: The newest signed time; None if no metadata was loaded yet.
        zone: Time zone in which times are shown.
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
