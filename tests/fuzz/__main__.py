"""Fuzz from the command line."""

from __future__ import annotations

import argparse
import logging
import secrets
import sys
import tempfile
from pathlib import Path

from tests.fuzz.engine import for_minutes, outcome, run
from tests.fuzz.readers import readers

parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
parser.add_argument("--minutes", type=float, default=10.0)
parser.add_argument("--seed", type=int, default=None)
parser.add_argument("--corpus", type=Path, default=None, help="kept from one run to the next")
parser.add_argument("--reader", action="append", help="only this one; may be named again")
parser.add_argument("--again", type=Path, help="one input of the named reader, its error whole")
order = parser.parse_args()
logging.disable(logging.CRITICAL)  # warnings of what was refused, thousands of them
seed = secrets.randbelow(1_000_000) if order.seed is None else order.seed
with tempfile.TemporaryDirectory(prefix="nu-fuzz-") as name:
    place = Path(name)
    chosen = readers(place / "made")
    if order.reader:
        chosen = [reader for reader in chosen if reader.name in order.reader]
    if order.again:
        (place / "run").mkdir()
        print(outcome(chosen[0], place / "run", order.again.read_bytes()))
        sys.exit(0)
    found = run(chosen, place / "run", order.corpus, seed, for_minutes(order.minutes), by_time=True)
    for reader in chosen:
        inputs, outcomes = found.inputs[reader.name], found.places[reader.name]
        print(f"{reader.name}: {inputs} inputs, {outcomes} outcomes")
    for reader_name, what, kept in found.findings:
        print(f"\nFOUND in {reader_name} ({kept}):\n{what}")
    print(f"seed {seed}: {sum(found.inputs.values())} inputs, {len(found.findings)} findings")
    sys.exit(1 if found.findings else 0)
