"""Correctness and growth of the board in two years of a fleet of 50, 500 and 5,000 sites.

Besides sizes and times the report contains ``mistakes`` (differences between the board and the
simulated sites), the days on which the bad release was halted and its second wave was due, and the
minutes from the failure in a second country to the halt.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.report import finish, print_line
from tests.publisher.fleet.simulation import DAY, ROLLOUTS, Fleet


def main() -> int:
    """Simulate and print a report; exit status 1 if a board was wrong or the halt came too late."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sites", type=int, nargs="+", default=[50, 500, 5000])
    parser.add_argument("--seed", type=int, default=5)
    options = parser.parse_args()
    second = {version: wave for version, _, wave, _, bad in ROLLOUTS if bad}
    rows: list[dict[str, object]] = []
    for count in options.sites:
        with tempfile.TemporaryDirectory() as directory:
            fleet = Fleet(Path(directory), count, options.seed)
            mistakes = fleet.play()
            halted = {version: minute / DAY for version, minute in fleet.halted.items()}
            minutes = {
                version: round(minute - sorted(fleet.failed[version].values())[1])
                for version, minute in fleet.halted.items()
            }
            row: dict[str, object] = {
                "sites": count, "receipts": fleet.stored, "mistakes": len(mistakes),
                "first": mistakes[:1], "halted": {v: round(day, 1) for v, day in halted.items()},
                "second_wave": second, "minutes_after_second_country": minutes,
                "import_ms_a_receipt": round(1000 * fleet.seconds["import"] / fleet.stored, 2),
                "board_s": round(fleet.seconds["board"] / fleet.boards, 2),
                "record_mb": round(fleet.record.stat().st_size / 1e6, 1),
            }  # fmt: skip
            row["late"] = [
                version for version, due in second.items()
                if halted.get(version, due) >= due or minutes[version] > 60
            ]  # fmt: skip
        print_line(str(row))
        rows.append(row)
    finish("board", {"fleets": rows})
    return int(any(row["mistakes"] or row["late"] for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
