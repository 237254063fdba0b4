"""Altering inputs, and judging what a reader makes of them."""

from __future__ import annotations

import random
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from ncen_updater.common.errors import UpdaterError
from tests.badinput.hostile import HUGE, LARGE, bounded, has_four_facts

#: What readers stumble over.
ODD = (
    b"\0", b"\xff", b"\xed\xa0\x80", b"[" * 3000, b"{\"a\":" * 800, b"\"", b"'", b"\\",
    b"\n", b"../",
    b"/", b"-1", b"0", b"1e999", b"NaN", b"null", b"true", b"[]", b"{}", HUGE[:4400].encode(),
    LARGE.encode(), b"18446744073709551616", b"9999-99-99T00:00:00Z", b"--", b"/*", b"$$", b"E'",
    b"\xe2\x80\xae", b"\\ud800", b"%00", b"\x7f", b"\x80", b"\xff\xff\xff\xff", b"PK\1\2",
)  # fmt: skip
LONGEST = 200_000
SLOW_S = 10


@dataclass(frozen=True)
class Reader:
    """One reader.

    Attributes:
        name: What it reads.
        seeds: Good inputs.
        read: Reads one, in a directory that is its own; returns nothing of interest.
        declared: Errors besides ours that its words promise, for who called it.
    """

    name: str
    seeds: tuple[bytes, ...]
    read: Callable[[Path, bytes], object]
    declared: tuple[type[Exception], ...] = ()


@dataclass
class Found:
    """What a run came to.

    Attributes:
        inputs: By reader.
        places: Outcomes that differ, by reader.
        findings: Name of a reader, what escaped, and where its bytes are.
    """

    inputs: Counter[str] = field(default_factory=Counter)
    places: Counter[str] = field(default_factory=Counter)
    findings: list[tuple[str, str, Path]] = field(default_factory=list)


def altered(chance: random.Random, pool: list[bytes]) -> bytes:
    """One of the pool, with a few changes."""
    made = bytearray(chance.choice(pool))
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        at = chance.randrange(len(made) + 1)
        match chance.randrange(9):
            case 0:
                made[at:] = b""
            case 1 if made:
                made[at % len(made)] ^= 1 << chance.randrange(8)
            case 2 if made:
                made[at % len(made)] = chance.randrange(256)
            case 3:
                made[at:at] = chance.choice(ODD)
            case 4:
                made[at : at + chance.randrange(40)] = b""
            case 5:
                other = chance.choice(pool)
                start = chance.randrange(len(other) + 1)
                made[at:] = other[start:]
            case 6:
                made[at : at + chance.randrange(1, 9)] = chance.choice(ODD)
            case 7:
                made[at:at] = made[at : at + chance.randrange(1, 200)] * chance.randrange(1, 4)
            case _:
                made[at:at] = chance.randbytes(chance.randrange(1, 12))
        del made[LONGEST:]
    return bytes(made)


def outcome(reader: Reader, place: Path, content: bytes) -> str:
    """Read one input; return what it leads to.

    Raises:
        Exception: What is a finding.
    """
    try:
        with bounded(SLOW_S):
            reader.read(place, content)
    except UpdaterError as error:
        has_four_facts(error)
        return f"{error.code} {_where(error)}"
    except reader.declared as error:
        return f"{type(error).__name__} {_where(error)}"
    return "read"


def _where(error: BaseException) -> str:
    """The last line of ours that it passed, in the innermost of what caused it."""
    while error.__cause__ is not None:
        error = error.__cause__
    ours = [f for f in traceback.extract_tb(error.__traceback__) if "ncen_updater" in f.filename]
    words = f"{type(error).__name__} {str(error)[:12]}"
    return f"{Path(ours[-1].filename).name}:{ours[-1].lineno} {words}" if ours else words


def run(
    readers: list[Reader],
    place: Path,
    corpus: Path | None,
    seed: int,
    until: Callable[[int], bool],
    *,
    by_time: bool = False,
) -> Found:
    """Feed readers in turn until it is enough.

    Args:
        readers: Who reads.
        place: A directory for them.
        corpus: Directory of inputs; None to store only findings.
        seed: Of all chance.
        until: Told the number of inputs so far; whether it is enough.
        by_time: Whether each reader gets as much time, or as many inputs.
    """
    chance, found = random.Random(seed), Found()
    pools = {reader.name: [*reader.seeds, *_kept(corpus, reader)] for reader in readers}
    known: dict[str, set[str]] = {reader.name: set() for reader in readers}
    for reader in readers:
        (place / reader.name).mkdir(parents=True, exist_ok=True)
        for content in pools[reader.name]:
            _one(reader, place, corpus, content, known[reader.name], found)
    count, spent = 0, {reader.name: 0.0 for reader in readers}
    while not until(count):
        reader = readers[count % len(readers)]
        if by_time:
            reader = min(readers, key=lambda one: spent[one.name])
        began = time.monotonic()
        pool, seen = pools[reader.name], known[reader.name]
        content = altered(chance, pool)
        count += 1
        if _one(reader, place, corpus, content, seen, found):
            pool.append(content)
            if corpus is not None:
                _keep(corpus / reader.name, content)
        spent[reader.name] += time.monotonic() - began
    return found


def _one(
    reader: Reader, place: Path, corpus: Path | None, content: bytes, seen: set[str], found: Found
) -> bool:
    found.inputs[reader.name] += 1
    try:
        told = outcome(reader, place / reader.name, content)
    except Exception as error:  # noqa: BLE001  that is what is looked for
        told = f"FOUND {_where(error)}"
        if told not in seen:
            kept = _keep((corpus or place) / "findings" / reader.name, content)
            last = "".join(traceback.format_exception(error)[-3:])
            found.findings.append((reader.name, last, kept))
    if told in seen:
        return False
    seen.add(told)
    found.places[reader.name] += 1
    return True


def _kept(corpus: Path | None, reader: Reader) -> Iterator[bytes]:
    if corpus is not None and (corpus / reader.name).is_dir():
        for path in sorted((corpus / reader.name).iterdir()):
            yield path.read_bytes()


def _keep(directory: Path, content: bytes) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / sha256(content).hexdigest()[:16]
    path.write_bytes(content)
    return path


def for_minutes(minutes: float) -> Callable[[int], bool]:
    """Enough after some minutes."""
    end = time.monotonic() + 60 * minutes
    return lambda _count: time.monotonic() > end
