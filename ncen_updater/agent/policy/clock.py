"""Is the clock right, by the newest time that was signed? Pure."""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo

from ncen_updater.common.cli.render import format_time
from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import N_, LazyText

# Signing machines and sites do not agree to the minute.
BEHIND_ADVISORY = timedelta(minutes=10)
BEHIND_STRICT = timedelta(days=1)
AHEAD_ADVISORY = timedelta(days=400)


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
            Finding(
                "NU-6311",
                Severity.CRITICAL if newest - now > BEHIND_STRICT else Severity.WARNING,
                LazyText(
                    N_("System clock behind: {now}, metadata signed at {signed}"),
                    values,
                ),
                LazyText(N_("Set the clock: timedatectl set-ntp true")),
                values,
            ),
        )
    return (
        Finding(
            "NU-6312",
            Severity.WARNING,
            LazyText(
                N_("System clock {now} is far ahead of the newest metadata ({signed})"), values
            ),
            LazyText(N_("Check the clock; if it is correct, run: ncen-updater check")),
            values,
        ),
    )
