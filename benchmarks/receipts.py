"""Import of receipts: seconds and memory for 10,000 good ones and for 100,000 hostile ones."""

from __future__ import annotations

import argparse
import random
import resource
import tempfile
import time
from datetime import timedelta
from pathlib import Path

from benchmarks.report import finish
from ncen_updater.formats.receipt import encode_public_key
from ncen_updater.publisher.fleet.board import build_board, render_board
from ncen_updater.publisher.fleet.intake import count_by_code, import_receipts
from ncen_updater.publisher.fleet.store import FleetStore
from tests.publisher.fleet.sites import RELEASES, TODAY, Reporter, lay


def main() -> int:
    """Measure, and print a report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sites", type=int, default=500)
    parser.add_argument("--receipts", type=int, default=20, help="of each site")
    parser.add_argument("--hostile", type=int, default=100_000)
    options = parser.parse_args()
    chance = random.Random(1)
    figures: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as directory:
        spool = Path(directory) / "spool"
        spool.mkdir()
        sites = [
            Reporter(f"site-{n}", f"{chr(65 + n // 26 % 26)}{chr(65 + n % 26)}")
            for n in range(options.sites)
        ]
        content = b""
        for site in sites:
            for number in range(options.receipts):
                signed = site.write(TODAY + timedelta(days=number))
                content = signed.content
                lay(spool, signed)
        with FleetStore.open(Path(directory) / "fleet.sqlite") as store:
            began = time.monotonic()
            good = import_receipts(store, spool, RELEASES, TODAY + timedelta(days=40))
            figures |= {
                "sites": options.sites, "stored": good.stored,
                "import_s": round(time.monotonic() - began, 1), "peak_mb": _peak_mb(),
            }  # fmt: skip
            for path in good.done:
                path.unlink()
            for site in sites:
                store.confirm(site.site, encode_public_key(site.private), TODAY)
            began = time.monotonic()
            render_board(build_board(store.list_sites(), {}, TODAY + timedelta(days=40)), "en")
            figures["board_s"] = round(time.monotonic() - began, 1)
            for number in range(options.hostile):
                spoilt = bytearray(content)
                spoilt[chance.randrange(len(spoilt))] ^= 1 << chance.randrange(8)
                (spool / f"{number:06}").write_bytes(spoilt)
            began = time.monotonic()
            bad = import_receipts(store, spool, RELEASES, TODAY + timedelta(days=41))
            figures |= {
                "hostile": options.hostile, "hostile_stored": bad.stored,
                "hostile_s": round(time.monotonic() - began, 1),
                "codes": dict(count_by_code(bad.refused)), "hostile_peak_mb": _peak_mb(),
            }  # fmt: skip
    finish("receipts", figures)
    return 0


def _peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000


if __name__ == "__main__":
    raise SystemExit(main())
