"""Simulated users who enter cases without a pause, as a process of its own.

Each case acknowledged by the application is logged and flushed to the disk before the next one is
entered, so that a test can prove that no acknowledged record was lost. Each line of the log is a
JSON object: ``{"case_ref": ...}`` with the times of request and response and the entered data, or
``{"outage_s": ...}``. At SIGTERM the summary is written to standard output as one line of JSON.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import IO
from urllib.parse import urlsplit

TIMEOUT_S = 10.0
CREATED = 201
NAMES = ("Иванов", "O'Brien", "გელაშვილი", "王", "Ndiaye", "D'Ávila")


@dataclass(frozen=True)
class Outage:
    """Time without an accepted case, from the first refused request to the next success.

    ``reason`` is that of the first refusal.
    """

    seconds: float
    refused: int
    from_wall: float
    to_wall: float
    from_monotonic: float
    to_monotonic: float
    reason: str = ""


@dataclass(frozen=True)
class Summary:
    """Summary of the users. ``longest_outage_s`` includes an outage that has not ended."""

    acknowledged: int
    refused: int
    longest_outage_s: float
    outages: tuple[Outage, ...]


@dataclass
class Tally:
    """Counts responses and outages. Pure: the caller passes the times."""

    acknowledged: int = 0
    refused: int = 0
    outages: list[Outage] = field(default_factory=list)
    _since: tuple[float, float, int, str] | None = None

    def accepted(self, wall: float, monotonic: float) -> Outage | None:
        """Count a success; return the outage that it ended."""
        self.acknowledged += 1
        return self._end(wall, monotonic)

    def rejected(self, wall: float, monotonic: float, reason: str = "") -> None:
        """Count a refusal; the times are those of the start of the request."""
        self._since = self._since or (wall, monotonic, self.refused, reason)
        self.refused += 1

    def summary(self, wall: float, monotonic: float) -> Summary:
        """End the count and return the summary."""
        self._end(wall, monotonic)
        longest = max((outage.seconds for outage in self.outages), default=0.0)
        return Summary(self.acknowledged, self.refused, longest, tuple(self.outages))

    def _end(self, wall: float, monotonic: float) -> Outage | None:
        if self._since is None:
            return None
        from_wall, from_monotonic, before, reason = self._since
        outage = Outage(
            monotonic - from_monotonic, self.refused - before,
            from_wall, wall, from_monotonic, monotonic, reason,
        )  # fmt: skip
        self._since = None
        self.outages.append(outage)
        return outage


def acknowledged(log: Path) -> tuple[str, ...]:
    """Return the references of all acknowledged cases from the log of the simulated users.

    An incomplete last line, left by a killed process, is ignored.
    """
    found = []
    for line in log.read_bytes().split(b"\n")[:-1]:
        entry = json.loads(line)
        if "case_ref" in entry:
            found.append(str(entry["case_ref"]))
    return tuple(found)


def _write(stream: IO[bytes], entry: Mapping[str, object]) -> None:
    stream.write(json.dumps(entry).encode() + b"\n")
    stream.flush()
    os.fsync(stream.fileno())


def _enter(url: str, fields: Mapping[str, object]) -> str:
    """Enter a case; raise if, to the user's knowledge, it was not saved."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(
        parts.hostname or "", parts.port or 80, timeout=TIMEOUT_S
    )
    try:
        connection.request(
            "POST", "/cases", json.dumps(fields), {"Content-Type": "application/json"}
        )
        response = connection.getresponse()
        content = response.read()
        if response.status != CREATED:
            raise ValueError(f"status {response.status}")
        return str(json.loads(content)["case_ref"])
    finally:
        connection.close()


def enter_cases(
    enter: Callable[[Mapping[str, object]], str],
    log: Path,
    ended: threading.Event,
    pause_s: float,
    random: Random,
) -> Summary:
    """Enter cases until ``ended`` is set."""
    tally = Tally()
    number = 0
    with log.open("ab") as stream:
        while not ended.is_set():
            number += 1
            fields = {
                "summary": f"Entered by the trial's officers, no. {number}",
                "category": random.choice(("DRUG", "CITES", "OTH")),
                "family_name": random.choice(NAMES),
                "company": "Trial & Cie",
                "from": "ZZ",
                "quantity": random.randrange(1, 100),
            }
            wall, monotonic = time.time(), time.monotonic()
            try:
                reference = enter(fields)
            except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
                tally.rejected(wall, monotonic, f"{type(error).__name__}: {error}")
            else:
                entry = {"case_ref": reference, "wall": wall, "answered": time.time()}
                _write(stream, {**entry, "summary": fields["summary"]})
                outage = tally.accepted(time.time(), time.monotonic())
                if outage is not None:
                    _write(stream, {"outage_s": outage.seconds, **asdict(outage)})
            ended.wait(pause_s)
    return tally.summary(time.time(), time.monotonic())


def main(argv: Sequence[str] | None = None) -> int:
    """Enter cases until SIGTERM, then write the summary."""
    parser = argparse.ArgumentParser(prog="traffic", description=__doc__)
    parser.add_argument("--url", required=True, help="address of the front door")
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--pause", type=float, default=0.05, help="seconds between two cases")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    random = Random(options.seed)  # noqa: S311 - repeatable, not secret
    summary = enter_cases(
        lambda fields: _enter(options.url, fields), options.log, ended, options.pause, random
    )
    sys.stdout.write(json.dumps(asdict(summary)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
