"""Is the clock behind what was signed?"""

from __future__ import annotations

from datetime import timedelta

from ncen_updater.agent.preflight.base import Context, advisory, check, strict
from ncen_updater.common.cli.render import format_time
from ncen_updater.common.findings import Finding
from ncen_updater.common.i18n import N_

__all__ = ["check_clock"]

# Signing machines and sites do not agree to the minute.
BEHIND_ADVISORY = timedelta(minutes=10)
BEHIND_STRICT = timedelta(days=1)
AHEAD_ADVISORY = timedelta(days=400)


@check(50, only_forward=True)
def check_clock(context: Context) -> tuple[Finding, ...]:
    """NU-6311 where the clock is behind what was signed, NU-6312 where it is far ahead."""
    newest = context.newest_signed_time
    if newest is None:
        return ()
    behind = newest - context.now
    zone = context.config.service.zone()
    figures = {"now": format_time(context.now, zone), "signed": format_time(newest, zone)}
    if behind > BEHIND_ADVISORY:
        make = strict if behind > BEHIND_STRICT else advisory
        return (
            make(
                6311,
                N_("The clock is behind: it shows {now}, but a list was signed at {signed}."),
                N_("Set the clock, and see that it is kept right (NTP)."),
                **figures,
            ),
        )
    if -behind > AHEAD_ADVISORY:
        return (
            advisory(
                6312,
                N_("The clock shows {now}, but the newest list was signed at {signed}."),
                N_("Check the clock; if it is right, get a newer list."),
                **figures,
            ),
        )
    return ()
