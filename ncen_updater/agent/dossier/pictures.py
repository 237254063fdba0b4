"""What the dossier's pictures are drawn from: lengths as shares of the longest. Pure, no markup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ncen_updater.agent.dossier.gather import Dossier, DossierHop
from ncen_updater.common.cli.render import format_bytes, format_duration
from ncen_updater.common.i18n import N_, Figure, Text

#: So many earlier upgrades are drawn, the newest; all are in the journal.
DRAWN = 8


@dataclass(frozen=True)
class Bar:
    """A bar, or a piece of one.

    Attributes:
        name: What it is.
        figure: How much it is.
        left: Where it begins, 0 to 100.
        width: How long it is, 0 to 100.
    """

    name: Text
    figure: Figure
    left: float
    width: float


@dataclass(frozen=True)
class Range:
    """A predicted stop, and the real one.

    Attributes:
        name: The release.
        left: The least, 0 to 100.
        right: The most.
        mark: The real stop; of what is predicted, the likely one.
        real: Whether the mark was measured.
        figure: What the mark is.
    """

    name: str
    left: float
    right: float
    mark: float
    real: bool
    figure: Figure


def stop_parts(hops: Sequence[DossierHop]) -> tuple[Bar, ...]:
    """The likely stop as one bar: copying, migrating, and the rest; empty where it is not known."""
    if not hops or any(hop.report is None for hop in hops):
        return ()
    reports = [hop.report for hop in hops if hop.report is not None]
    copying = sum(report.copy_s for report in reports)
    # What runs while officers work is none of the stop.
    migrating = sum(hop.report.migrate_s for hop in hops if hop.report and not hop.expands)
    likely = sum(report.stop_s.likely for report in reports)
    parts = [
        (N_("copying the databases"), copying),
        (N_("migrating the databases"), migrating),
        (N_("stopping, starting, looking at the health"), max(0.0, likely - copying - migrating)),
    ]
    whole = sum(seconds for _, seconds in parts)
    if whole <= 0:
        return ()
    found, left = [], 0.0
    for name, seconds in parts:
        width = 100 * seconds / whole
        found.append(Bar(Text(name), format_duration(seconds), round(left, 2), round(width, 2)))
        left += width
    return tuple(found)


def stop_ranges(dossier: Dossier) -> tuple[Range, ...]:
    """Each prediction for this site with what it came to, and this one; empty if none is known."""
    earlier = dossier.earlier[-DRAWN:]
    ends = [end for item in earlier for end in (item.high_s, item.real_s)]
    stop = dossier.stop_s
    longest = max([*ends, *([stop[2]] if stop else [])], default=0.0)
    if longest <= 0:
        return ()

    def share(seconds: float) -> float:
        return round(100 * max(0.0, seconds) / longest, 2)

    found = [
        Range(item.version, share(item.low_s), share(item.high_s), share(item.real_s),
              real=True, figure=format_duration(item.real_s))
        for item in earlier
    ]  # fmt: skip
    if stop is not None:
        low, likely, high = stop
        found.append(
            Range(dossier.target, share(low), share(high), share(likely), real=False,
                  figure=format_duration(likely))
        )  # fmt: skip
    return tuple(found)


def room(dossier: Dossier) -> tuple[Bar, ...]:
    """What databases and programs take before, during and after; empty where there is no database.

    The databases of before are kept beside the new ones for some days; the program of the release
    comes while officers still work.
    """
    databases = sum(dossier.sizes.values())
    programs = sum(hop.unpacked_bytes for hop in dossier.hops)
    both = 2 * databases + programs
    if databases <= 0:
        return ()
    days = f"{dossier.keep_days:g}"
    moments = [
        (Text(N_("now")), databases),
        (Text(N_("in the upgrade, and {days} days after it"), {"days": days}), both),
        (Text(N_("afterwards")), databases + programs),
    ]
    return tuple(
        Bar(name, format_bytes(size), 0.0, round(100 * size / both, 2)) for name, size in moments
    )
