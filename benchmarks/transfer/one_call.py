"""The simple alternative: one call of ``zstd --patch-from`` on the archive of the whole release."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

from benchmarks.report import print_line
from benchmarks.transfer.corpora import Pair

# Metadata that is identical however a release is packed, so that only contents differ.
TAR = ("tar", "--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner")
ZSTD = ("zstd", "-q", "-19", "--long=31", "--single-thread")


def one_call(pair: Pair, old: Path, new: Path, cache: Path) -> int:
    """Return the size of ``zstd -19 --long=31 --patch-from`` in bytes, cached.

    Args:
        pair: The pair.
        old: Directory of the old release.
        new: Directory of the new release.
        cache: Directory of the cached figure.
    """
    note = cache / "one-call" / f"{pair.name}-{pair.old}-{pair.new}.json"
    if not note.is_file():
        print_line(f"{pair.name}: one call of zstd")
        note.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as directory:
            for name, tree in (("old", old), ("new", new)):
                archive = f"{directory}/{name}.tar"
                subprocess.run([*TAR, "-cf", archive, "-C", str(tree), "."], check=True)
            patch = Path(directory, "patch")
            subprocess.run(
                [*ZSTD, f"--patch-from={directory}/old.tar", f"{directory}/new.tar",
                 "-o", str(patch)], check=True,
            )  # fmt: skip
            note.write_text(json.dumps({"bytes": patch.stat().st_size}), "utf-8")
    return int(json.loads(note.read_text("utf-8"))["bytes"])
