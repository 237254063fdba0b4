"""Memory and time of inspections, which viewers request from the service.

A stand-in site on PostgreSQL with a rehearsed release, and ``ncen-updater serve`` beside it. Each
kind of inspection is requested at the socket; its processes are sampled from outside. Memory shared
by several processes counts in proportion (PSS).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.report import finish, print_line
from benchmarks.sites import server
from demo.databases import PostgresPlace
from demo.site import DemoSite, SiteOptions
from ncen_updater.agent.service.inspections import InspectionKind
from tests.support.service_process import Served, served
from tests.support.sites import TrialFeed, connect, serve

SAMPLE_S = 0.1
LOOKING = b"ncen_updater.agent.cli.worker"


def _below(process: int, *, ours: bool = False) -> Iterator[int]:
    """Yield the inspection processes of a service, and their descendants."""
    for children in Path(f"/proc/{process}/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            looks = ours or LOOKING in Path(f"/proc/{child}/cmdline").read_bytes()
            if looks:
                yield child
            yield from _below(child, ours=looks)


def _pss_mb(process: int) -> float:
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return next((int(row.split()[1]) / 1000 for row in lines if row.startswith("Pss:")), 0.0)


def _looking_mb(service: int) -> float:
    try:
        return sum(map(_pss_mb, _below(service)))
    except OSError:  # one of the processes has ended
        return 0.0


def _inspected(service: Served, kind: InspectionKind) -> dict[str, object]:
    begin, most = time.monotonic(), 0.0
    number = service.client.call("POST", "/v1/inspections", {"kind": kind.value})["id"]
    while (seen := service.client.get(f"/v1/inspections/{number}"))["result"] is None:
        most = max(most, _looking_mb(service.number))
        time.sleep(SAMPLE_S)
    row: dict[str, object] = {
        "seconds": round(time.monotonic() - begin, 2),
        "pss_mb": round(most, 1),
        "exit_code": seen["result"].get("exit_code"),
    }
    print_line(f"{kind.value}: {row}")
    return row


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=20_000)
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="nu-bench-") as directory, server() as (running, found):
        place = Path(directory)
        feed = TrialFeed(place)
        feed.publish(["3.3.0"])
        databases = PostgresPlace(str(running.host), prefix="i_", programs=found.directory)
        with serve(feed.directory) as url:
            options = SiteOptions(
                feed_urls=(url,), cases=chosen.cases, icomm=False, soak_s=0.0,
                settings={"service": {"mode": "notify", "timezone": "UTC"}},
            )  # fmt: skip
            with DemoSite(place / "site", databases, options) as site:
                connect(site, feed)
                site.start_app()
                with served(site.config_path, place / "site") as service:
                    service.run("--json", "rehearse")
                    before = _pss_mb(service.number)
                    kinds = {kind.value: _inspected(service, kind) for kind in InspectionKind}
                    after = _pss_mb(service.number)
    finish(
        "inspections",
        {
            "cases": chosen.cases,
            "kinds": kinds,
            "service_pss_mb": {"before": before, "after": after},
        },
    )


if __name__ == "__main__":
    main()
