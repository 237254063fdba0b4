"""The comparison: each pair with tufup and with our programs, sums, ratios, aims."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.report import compile_as_installed, finish, median, print_line
from benchmarks.transfer.corpora import HELD_BACK, PAIRS, Pair, unpacked
from benchmarks.transfer.measure import in_child
from benchmarks.transfer.one_call import one_call
from benchmarks.transfer.our_side import MANIFEST
from benchmarks.transfer.serving import serving

AIMS = {
    "bytes": 0.4,
    "make_cpu": 0.1,
    "apply_cpu": 0.12,
    "apply_peak": 0.15,
    "apply_written": 0.2,
    "worst_pair_bytes": 1.0,
    "worst_pair_apply_cpu": 1.0,
}
HELD_BACK_AIMS = {"bytes": 0.6, "worst_pair_by_one_call": 1.0}
COSTS = ("cpu_s", "peak_mb", "written_mb")


@dataclass(frozen=True)
class Side:
    """Figures of one program for a pair.

    Attributes:
        made: Costs of its publisher: bytes, CPU seconds, peak memory.
        wire: Bytes sent to its client, headers and metadata included; one per run.
        runs: Costs of its client; one per run.
        requests: Number of its requests.
    """

    made: Mapping[str, Any]
    wire: list[int]
    runs: list[Mapping[str, Any]]
    requests: int

    def figure(self, name: str) -> float:
        """Return the median of the runs."""
        return median([run[name] for run in self.runs])

    def as_dict(self) -> dict[str, object]:
        """Return the figures for JSON."""
        costs = {f"apply_{name}": self.figure(name) for name in COSTS}
        return {"wire_bytes": int(median(self.wire)), "requests": self.requests, **costs,
                "make": dict(self.made)}  # fmt: skip


def _link_tree(source: Path, place: Path) -> None:
    shutil.copytree(source, place, symlinks=True, copy_function=os.link)


def _tufup(pair: Pair, old: Path, new: Path, work: Path, cache: Path, turns: int) -> Side:
    kept = cache / "tufup" / f"{pair.name}-{pair.old}-{pair.new}"
    note = kept / "cost.json"
    cached = note.is_file()
    if not cached:
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        print_line(f"{pair.name}: tufup makes its patch")
        order = {"name": pair.name, "old": [pair.old, str(old)], "new": [pair.new, str(new)],
                 "place": str(kept)}  # fmt: skip
        note.write_text(json.dumps(in_child("tufup_side", "make", order)), "utf-8")
    made = {**json.loads(note.read_text("utf-8")), "cached": cached}
    repository = kept / "repository"
    side = Side(made, [], [], 0)
    for turn in range(turns):
        print_line(f"{pair.name}: tufup updates")
        place = work / f"tufup-{turn}"
        for name in ("metadata", "targets"):
            (place / name).mkdir(parents=True)
        shutil.copyfile(repository / "metadata" / "root.json", place / "metadata" / "root.json")
        archive = f"{pair.name}-{pair.old}.tar.gz"
        shutil.copyfile(repository / "targets" / archive, place / "targets" / archive)
        shutil.copytree(old, place / "install", symlinks=True)
        os.sync()  # flush prepared data, so that it is not written during the measurement
        with serving(repository) as (url, counter):
            order = {"name": pair.name, "version": pair.old, "url": url, "place": str(place)}
            side.runs.append(in_child("tufup_side", "update", order))
        _require_same(new, place / "install")
        side.wire.append(counter.sent)
        side = Side(made, side.wire, side.runs, counter.requests)
        shutil.rmtree(place)
    return side


def _require_same(new: Path, installed: Path) -> None:
    """Require every file of the release; tufup leaves old files in place."""
    for path in new.rglob("*"):
        there = installed / path.relative_to(new)
        if path.is_file() and not path.is_symlink() and there.read_bytes() != path.read_bytes():
            raise RuntimeError(f"{there} is not as released")


def _ours(pair: Pair, old: Path, new: Path, work: Path, turns: int) -> Side:
    order: dict[str, Any] = {"name": pair.name, "place": str(work / "ours")}
    for side_name, version, tree in (("old", pair.old, old), ("new", pair.new, new)):
        release = work / f"release-{side_name}"
        _link_tree(tree, release)
        manifest = MANIFEST.format(name=pair.name, version=version)
        (release / "manifest.toml").write_text(manifest, "utf-8")
        order[side_name] = [version, str(release)]
    (work / "ours").mkdir()
    print_line(f"{pair.name}: ours makes its pack")
    made = in_child("our_side", "publish", order)
    feed = work / "ours" / "feed"
    side = Side(made, [], [], 0)
    for turn in range(turns):
        print_line(f"{pair.name}: ours updates")
        place = work / f"site-{turn}"
        place.mkdir()
        shutil.copyfile(feed / "metadata" / "1.root.json", place / "root.json")
        site = {"name": pair.name, "old": pair.old, "new": pair.new, "place": str(place)}
        with serving(feed) as (url, _):
            in_child("our_side", "install_old", {**site, "url": url})
        os.sync()
        with serving(feed) as (url, counter):
            side.runs.append(in_child("our_side", "update", {**site, "url": url}))
        found = in_child("our_side", "verify", site)["differences"]
        if found:
            raise RuntimeError(f"{pair.name}: the slot differs: {found[:5]}")
        side.wire.append(counter.sent)
        side = Side(made, side.wire, side.runs, counter.requests)
        shutil.rmtree(place)
    return side


@dataclass(frozen=True)
class Row:
    """Result of a pair.

    Attributes:
        tufup: None if it was not measured.
        ours: Always measured.
        one_call: Bytes of one call of zstd, for the held-back pairs.
    """

    tufup: Side | None
    ours: Side
    one_call: int | None

    def as_dict(self) -> dict[str, object]:
        """Return the result for JSON."""
        found: dict[str, object] = {"ours": self.ours.as_dict()}
        if self.tufup is not None:
            found["tufup"] = self.tufup.as_dict()
        if self.one_call is not None:
            found["one_call_bytes"] = self.one_call
        return found


def _by_one_call(rows: Mapping[str, Row]) -> dict[str, float]:
    """Return the ratio of our pack to one call of zstd, for the worst pair."""
    found = [row.ours.made["pack_bytes"] / row.one_call for row in rows.values() if row.one_call]
    return {"worst_pair_by_one_call": round(max(found), 4)} if found else {}


def _ratios(rows: Mapping[str, tuple[Side, Side]]) -> dict[str, float]:
    """Return our figures divided by tufup's: total, largest peak, and worst pair."""

    def total(index: int, figure: str) -> float:
        return sum(sides[index].figure(figure) for sides in rows.values())

    def ratio(ours: float, theirs: float) -> float:
        return round(ours / theirs, 4)

    wire = [sum(median(sides[i].wire) for sides in rows.values()) for i in (0, 1)]
    make = [sum(sides[i].made["cpu_s"] for sides in rows.values()) for i in (0, 1)]
    peak = [max(sides[i].figure("peak_mb") for sides in rows.values()) for i in (0, 1)]
    return {
        "bytes": ratio(wire[1], wire[0]),
        "make_cpu": ratio(make[1], make[0]),
        "apply_cpu": ratio(total(1, "cpu_s"), total(0, "cpu_s")),
        "apply_peak": ratio(peak[1], peak[0]),
        "apply_written": ratio(total(1, "written_mb"), total(0, "written_mb")),
        "worst_pair_bytes": max(ratio(median(b.wire), median(a.wire)) for a, b in rows.values()),
        "worst_pair_apply_cpu": max(
            ratio(b.figure("cpu_s"), a.figure("cpu_s")) for a, b in rows.values()
        ),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = [pair.name for pair in PAIRS]
    parser.add_argument("--pairs", default=",".join(names),
                        help="comma-separated names, or 'held-back'")  # fmt: skip
    parser.add_argument("--turns", type=int, default=3, help="updates with each program")
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/ncen-updater-benchmarks"),
                        help="directory for downloads and results of tufup")  # fmt: skip
    parser.add_argument("--work", type=Path, help="working directory; needs 4 GB")
    chosen = parser.parse_args(arguments)
    compile_as_installed()
    cache = chosen.cache.expanduser().absolute()
    held_back = chosen.pairs == "held-back"
    wanted = [pair.name for pair in HELD_BACK] if held_back else chosen.pairs.split(",")
    pairs = [pair for pair in (*PAIRS, *HELD_BACK) if pair.name in wanted]
    rows: dict[str, Row] = {}
    for pair in pairs:
        old, new = unpacked(pair, cache)
        # On the file system of the cache, so that releases can be hard-linked.
        with tempfile.TemporaryDirectory(prefix="work-", dir=chosen.work or cache) as directory:
            work = Path(directory)
            theirs = _tufup(pair, old, new, work, cache, chosen.turns) if pair.peer else None
            ours = _ours(pair, old, new, work, chosen.turns)
        call = one_call(pair, old, new, cache) if pair in HELD_BACK else None
        rows[pair.name] = Row(theirs, ours, call)
        print_line(f"{pair.name}: {json.dumps(rows[pair.name].as_dict())}")
    told = {
        pair.name: {
            "from": pair.old, "to": pair.new, "kind": pair.kind, **rows[pair.name].as_dict(),
        }
        for pair in pairs
    }  # fmt: skip
    both = {name: (row.tufup, row.ours) for name, row in rows.items() if row.tufup is not None}
    cached = [name for name, (theirs, _) in both.items() if theirs.made["cached"]]
    ratios = {**(_ratios(both) if both else {}), **_by_one_call(rows)}
    finish(
        "transfer",
        {"turns": chosen.turns, "pairs": told, "tufup_patches_of_an_earlier_run": cached,
         "ratios": ratios, "aims": HELD_BACK_AIMS if held_back else AIMS},
    )  # fmt: skip


if __name__ == "__main__":
    main()
