"""Import of receipts: time and memory for 10,000 good ones and for 100,000 hostile ones.

The result of each kind of hostile receipt is known: refused with one code, already known, or stored
with a mark. Any other result is counted as ``unexpected``, which must be 0.
"""

from __future__ import annotations

import argparse
import base64
import itertools
import json
import random
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.dsse import Envelope

from benchmarks.report import finish
from ncen_updater.common.json_records import encode_canonical_json
from ncen_updater.formats.receipt import (
    PAYLOAD_TYPE,
    SignedReceipt,
    encode_public_key,
    make_signer,
)
from ncen_updater.publisher.fleet.board import build_board, render_board
from ncen_updater.publisher.fleet.store import REFUSED_DIRECTORY, FleetStore, IntakeResult
from tests.publisher.fleet.sites import RELEASES, TODAY, Reporter, lay

KNOWN, STORED = "known", "stored and marked"


#: Number of receipts of unconfirmed keys.
FLOOD = 5000


class Attacker:
    """Creates hostile receipts from those of a site, also signed with the site's own key.

    Args:
        site: Site with a confirmed key, which wrote numbers 1 to 20 and 90,001.
        genuine: Its imported receipts.
        chance: Random source.
    """

    def __init__(self, site: Reporter, genuine: list[SignedReceipt], chance: random.Random) -> None:
        self._site, self._genuine, self._chance = site, genuine, chance
        self._forger = replace(site, private=Ed25519PrivateKey.generate())
        self._abroad = replace(site, country="ZZ")
        self._clock = replace(site, previous=genuine[-1].digest)
        self._older = 100

    def list_kinds(self) -> Mapping[str, tuple[Callable[[], bytes], str]]:
        """Return the function that creates each kind, and the expected result."""
        chance = self._chance
        return {
            "truncated": (lambda: self._pick()[: -chance.randrange(1, 900)], "NU-9801"),
            "one bit changed": (self._change_bit, "NU-9801"),
            "noise": (lambda: chance.randbytes(chance.randrange(4000)), "NU-9801"),
            "too large": (lambda: b" " * chance.randrange(4097, 20_000), "NU-9801"),
            "nested": (lambda: b"[" * chance.randrange(2000, 4000), "NU-9801"),
            "long digits": (lambda: self._sign(number=10 ** chance.randrange(10, 900)), "NU-9801"),
            "foreign field": (lambda: self._sign(host=f"db{chance.random()}"), "NU-9801"),
            "more than its level": (lambda: self._sign(level="version"), "NU-9801"),
            "an hour": (lambda: self._sign(day=f"2026-11-30T{chance.randrange(24)}:00"), "NU-9801"),
            "duplicate key": (self._duplicate_key, "NU-9801"),
            "another spelling": (lambda: self._pick().replace(b":", b": ", 1), "NU-9801"),
            "foreign key": (lambda: self._forger.write().content, STORED),
            "other country": (lambda: self._abroad.write().content, "NU-9807"),
            "unknown release": (lambda: self._site.write(running="9.9.9").content, "NU-9808"),
            "replayed": (self._pick, KNOWN),
            "never seen, but older": (self._write_older, "NU-9805"),
            "same number, other content": (self._contradict, "NU-9806"),
            "clock far off": (self._write_ahead, STORED),
        }

    def _pick(self) -> bytes:
        return self._chance.choice(self._genuine[:20]).content

    def _change_bit(self) -> bytes:
        spoilt = bytearray(self._pick())
        spoilt[self._chance.randrange(len(spoilt))] ^= 1 << self._chance.randrange(8)
        return bytes(spoilt)

    def _sign(self, **changes: object) -> bytes:
        """Sign, with a valid key, a receipt that no site writes."""
        statement = json.loads(base64.b64decode(json.loads(self._pick())["payload"]))
        statement["predicate"].update(changes)
        return self._envelop(encode_canonical_json(statement))

    def _duplicate_key(self) -> bytes:
        payload = base64.b64decode(json.loads(self._pick())["payload"])
        return self._envelop(payload.replace(b'"country":"', b'"country":"ZZ","country":"', 1))

    def _envelop(self, payload: bytes) -> bytes:
        envelope = Envelope(payload, PAYLOAD_TYPE, [])
        envelope.sign(make_signer(self._site.private))
        return encode_canonical_json(envelope.to_dict())

    def _write_older(self) -> bytes:
        self._older += 1
        return replace(self._site, number=self._older).write().content

    def _contradict(self) -> bytes:
        number = self._chance.randrange(20)
        head = f"{self._chance.randrange(10**8)}:{'0' * 16}"
        return replace(self._site, number=number).write(chain_head=head).content

    def _write_ahead(self) -> bytes:
        return self._clock.write(
            TODAY + timedelta(days=self._chance.randrange(400, 90_000))
        ).content


def main() -> int:
    """Measure and print a report; exit status 1 if a hostile receipt had an unexpected result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sites", type=int, default=500)
    parser.add_argument("--receipts", type=int, default=20, help="of each site")
    parser.add_argument("--hostile", type=int, default=100_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        figures = _measure(Path(directory), options.sites, options.receipts, options.hostile)
    finish("receipts", figures)
    return int(figures["unexpected"] != 0)


def _measure(place: Path, sites: int, receipts: int, hostile: int) -> dict[str, object]:
    spool, day = place / "spool", TODAY + timedelta(days=41)
    spool.mkdir()
    reporters = [
        Reporter(f"site-{n}", f"{chr(65 + n // 26 % 26)}{chr(65 + n % 26)}") for n in range(sites)
    ]
    for reporter in reporters:
        for number in range(receipts):
            lay(spool, reporter.write(TODAY + timedelta(days=number)))
    with FleetStore.open(place / "fleet.db") as store:
        began, used = time.monotonic(), time.process_time()
        good = store.import_spool(spool, RELEASES, TODAY + timedelta(days=40))
        figures: dict[str, object] = {
            "sites": sites, "stored": good.stored, "import_s": round(time.monotonic() - began, 1),
            "import_cpu_s": round(time.process_time() - used, 1), "peak_mb": _peak_mb(),
        }  # fmt: skip
        for reporter in reporters:
            store.confirm(reporter.site, encode_public_key(reporter.private), TODAY)

        target = Reporter("victim", "KE")
        genuine = [target.write(outcome="upgraded") for _ in range(20)]
        target.number = 90_000
        genuine.append(target.write())
        lay(spool, *genuine)
        store.import_spool(spool, RELEASES, day)
        store.confirm("victim", encode_public_key(target.private), TODAY)
        kinds = Attacker(target, genuine, random.Random(1)).list_kinds()
        laid = Counter(itertools.islice(itertools.cycle(kinds), hostile))
        for kind, count in laid.items():
            for number in range(count):
                (spool / f"{number:06} {kind}").write_bytes(kinds[kind][0]())
        began, used = time.monotonic(), time.process_time()
        bad = store.import_spool(spool, RELEASES, day)
        figures |= {
            "hostile": hostile, "hostile_s": round(time.monotonic() - began, 1),
            "hostile_cpu_s": round(time.process_time() - used, 1), "hostile_peak_mb": _peak_mb(),
            **_judge(bad, laid, spool / REFUSED_DIRECTORY, kinds),
        }  # fmt: skip
        for number in range(FLOOD):
            lay(spool, Reporter(f"forged-{number}", f"F{chr(65 + number % 26)}").write(TODAY))
        flood = store.import_spool(spool, RELEASES, day)
        figures |= {"unconfirmed": flood.stored, "unconfirmed_dropped": flood.dropped}
        began = time.monotonic()
        sites_now = store.list_sites()
        (victim,) = (one for one in sites_now if one.site == "victim" and one.is_confirmed)
        render_board(build_board(sites_now, {}, day), "en")
        return figures | {
            "victim_marks": sorted(victim.marks),
            "record_mb": round((place / "fleet.db").stat().st_size / 1e6, 1),
            "board_s": round(time.monotonic() - began, 1), "board_peak_mb": _peak_mb(),
        }  # fmt: skip


def _judge(
    bad: IntakeResult, laid: Counter[str], refused: Path, kinds: Mapping[str, tuple[object, str]]
) -> dict[str, object]:
    """Compare the result of each file with the expected one, by its name."""
    found = Counter((path.name[:7], path.name[15:]) for path in refused.iterdir())
    for kind, count in laid.items():
        taken = count - sum(found[code, kind] for code in bad.codes)
        if taken:
            found[fate if (fate := kinds[kind][1]) in (KNOWN, STORED) else "taken", kind] = taken
    wrong = sum(count for (fate, kind), count in found.items() if kinds[kind][1] != fate)
    for fate, count in ((KNOWN, bad.known), (STORED, bad.stored)):
        wrong += abs(count - sum(laid[kind] for kind, (_, of) in kinds.items() if of == fate))
    return {
        "unexpected": wrong,
        "fates": {kind: f"{count} {fate}" for (fate, kind), count in sorted(found.items())},
    }


def _peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000


if __name__ == "__main__":
    raise SystemExit(main())
