"""Time and memory of a merge of texts in each format: read, merge, write, as in step ``switch``.

One in a hundred source texts is changed, one in a hundred is removed and as many are added; the
local overlay translates nine in ten, and one in two hundred translations lacks a placeholder. Each
format runs in a process of its own, whose peak memory is reported beside that before the merge.
Seconds are CPU seconds, which do not depend on other load.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.report import finish, print_line
from ncen_updater.agent.storage.overlay.three_way_merge import merge_settings, merge_texts
from ncen_updater.formats.manifest import OverlayManifest
from ncen_updater.formats.texts.catalog import TextCatalog, TextEntry
from ncen_updater.formats.texts.file_formats import FORMATS as READERS
from ncen_updater.formats.texts.file_formats import read_catalog
from ncen_updater.formats.texts.overlay_files import ShippedTexts

COUNT = 10_000
FORMATS = ("po", "properties", "json", "ini")
#: One text in so many is changed, removed, without placeholder, or without translation.
CHANGED, GONE, BROKEN, MISSING = 100, 100, 200, 10
KB = 1024


def _source(count: int, release: int) -> Iterator[tuple[str, str]]:
    """Yield names and texts of a release, 0 or 1."""
    for number in range(count + release * (count // GONE)):
        if release and number % GONE == 1 and number < count:
            continue
        words = "Seizure {ref} of %s: the officer at the border post enters it"
        if release and number % CHANGED == 0:
            words += " again"
        yield f"page{number % 50}.text{number:06}", f"{words}, line {number}"


def _own(count: int) -> Iterator[tuple[str, str]]:
    """Yield the local translations for the first release."""
    for number, (name, text) in enumerate(_source(count, 0)):
        if number % MISSING:
            words = text.replace("Seizure", "Saisie é").replace("enters it", "la saisit")
            yield name, words.replace("{ref}", "") if number % BROKEN == 1 else words


def _catalogue(
    form: str, texts: dict[str, str], sources: dict[str, str] | None = None
) -> TextCatalog:

    entries: dict[tuple[str, ...], TextEntry] = {}
    for name, text in texts.items():
        if form == "po":  # in .po files the source text is the key
            source = (sources or texts)[name]
            entries["", source] = TextEntry(text if sources else "", source=source)
        else:
            entries[tuple(name.split(".")) if form != "properties" else (name,)] = TextEntry(text)
    header = {"Content-Type": "text/plain; charset=UTF-8", "Language": "sw"} if form == "po" else {}
    return TextCatalog(entries, header)


def _declared(form: str) -> OverlayManifest:
    settings = form == "ini"
    place = "app/settings.ini" if settings else f"app/i18n/{{lang}}.{form}"
    kind = "settings" if settings else "translations"
    data = {"kind": kind, "format": form, "release_path": place, "site_path": place[4:]}
    return OverlayManifest.model_validate(data)


def _peak() -> int:
    """Return the peak memory of this process in bytes, without that of its parent."""
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * KB
    raise LookupError("the kernel does not tell it")


def prepare(form: str, count: int, directory: Path) -> None:
    """Write the three files of a merge: both releases and the local overlay."""
    kind = READERS[_declared(form).format]
    old, new, own = (dict(t) for t in (_source(count, 0), _source(count, 1), _own(count)))
    made = {
        "old": _catalogue(form, old),
        "new": _catalogue(form, new),
        "own": _catalogue(form, own, old),
    }
    for name, catalogue in made.items():
        (directory / name).write_bytes(kind.write(catalogue).encode())


def measure(form: str, directory: Path) -> dict[str, float]:
    """Merge one file in this process; return CPU seconds and bytes."""
    declared = _declared(form)
    before = _peak()
    begin = time.process_time()
    read = {n: read_catalog((directory / n).read_bytes(), declared) for n in ("old", "new", "own")}
    middle = time.process_time()
    if form == "ini":
        merged = merge_settings(
            declared, ShippedTexts(read["old"]), ShippedTexts(read["new"]), read["own"]
        )
    else:
        left, gone_to = (ShippedTexts(TextCatalog(), read[name]) for name in ("old", "new"))
        merged = merge_texts(declared, left, gone_to, read["own"], {})
    then = time.process_time()
    content = READERS[declared.format].write(merged.catalogue).encode()
    end = time.process_time()
    return {
        "entries": len(merged.catalogue),
        "told": len(merged.keys),
        "bytes": len(content),
        "read_s": middle - begin,
        "merge_s": then - middle,
        "write_s": end - then,
        "peak_before": before,
        "peak": _peak(),
    }


def main() -> None:
    """Measure each format in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--format", choices=FORMATS, help="only this one, in this process")
    parser.add_argument("--files", type=Path, help="where its files were prepared")
    given = parser.parse_args()
    if given.format:
        json.dump(measure(given.format, given.files), sys.stdout)
        return
    found: dict[str, dict[str, float]] = {}
    print_line("format      read   merge   write   s in all   peak MB (before)   told")
    for form in FORMATS:
        with tempfile.TemporaryDirectory(prefix="nu-texts-") as folder:
            prepare(form, given.count, Path(folder))
            words = [sys.executable, "-m", "benchmarks.texts", "--format", form, "--files", folder]
            ended = subprocess.run(words, capture_output=True, text=True, check=True)
        one = found[form] = json.loads(ended.stdout)
        steps = [one[name] for name in ("read_s", "merge_s", "write_s")]
        print_line(
            f"{form:10} {steps[0]:6.2f}  {steps[1]:6.2f}  {steps[2]:6.2f}   {sum(steps):8.2f}"
            f"   {one['peak'] / 1e6:7.1f} ({one['peak_before'] / 1e6:.1f})   {one['told']:.0f}"
        )
    finish("texts", {"count": given.count, "formats": found})


if __name__ == "__main__":
    main()
