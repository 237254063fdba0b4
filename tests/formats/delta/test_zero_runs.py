"""Tests of runs of zeros, across blocks and batches."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncen_updater.formats.delta import byte_transforms
from ncen_updater.formats.delta.byte_transforms import (
    BLOCK_BYTES,
    RUN_BYTES,
    ZeroRunRemover,
    restore_runs,
)
from ncen_updater.formats.delta.lzma_streams import MalformedPackError


def _reader(content: bytes) -> Callable[[int], bytes]:
    at = 0

    def read(size: int) -> bytes:
        nonlocal at
        piece = content[at : at + size]
        assert len(piece) == size
        at += size
        return piece

    return read


def _back(squeezer: ZeroRunRemover, kept: bytes, length: int) -> bytes:
    content = b"".join(squeezer.encode_runs())
    assert len(content) == RUN_BYTES * len(squeezer)
    return b"".join(restore_runs(len(squeezer), _reader(content), _reader(kept), length))


BLOCKS = st.lists(
    st.lists(
        st.one_of(st.binary(max_size=5), st.integers(0, 40).map(bytes)), max_size=6
    ).map(b"".join),
    max_size=6,
)  # fmt: skip


@given(BLOCKS)
def test_arbitrary_bytes_round_trip(blocks: list[bytes]) -> None:
    squeezer = ZeroRunRemover()
    pieces = list(map(squeezer.remove_runs, blocks))
    whole = b"".join(blocks)
    assert _back(squeezer, b"".join(pieces), len(whole)) == whole
    assert not any(b"\0" * 16 in piece for piece in pieces)  # what is shorter stays in its block


def test_zero_run_continues_across_blocks() -> None:
    squeezer = ZeroRunRemover()
    kept = b"".join(map(squeezer.remove_runs, [b"a" + bytes(20), bytes(50), bytes(3) + b"b"]))
    assert (kept, len(squeezer)) == (b"ab", 1)
    assert _back(squeezer, kept, 75) == b"a" + bytes(73) + b"b"


@pytest.mark.parametrize("batch", [1, 7, 16384])
def test_many_long_zero_runs_round_trip(monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    monkeypatch.setattr(byte_transforms, "BATCH_NUMBERS", batch)
    chance = random.Random(3)
    parts = []
    for _ in range(900):
        parts += [chance.randbytes(chance.randrange(30)), bytes(chance.randrange(16, 400))]
    for size in (BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES):
        parts += [chance.randbytes(size), bytes(size)]
    whole = b"".join(parts)
    squeezer = ZeroRunRemover()
    kept = b"".join(
        squeezer.remove_runs(whole[at : at + BLOCK_BYTES])
        for at in range(0, len(whole), BLOCK_BYTES)
    )
    assert len(squeezer) > 800
    assert _back(squeezer, kept, len(whole)) == whole


def test_pieces_are_no_longer_than_a_block() -> None:
    squeezer = ZeroRunRemover()
    kept = squeezer.remove_runs(b"a" * 300_000 + bytes(500_000) + b"b")
    content = b"".join(squeezer.encode_runs())
    pieces = list(restore_runs(len(squeezer), _reader(content), _reader(kept), 800_001))
    assert max(map(len, pieces)) == BLOCK_BYTES
    assert sum(map(len, pieces)) == 800_001


def test_overlong_zero_runs_are_refused() -> None:
    squeezer = ZeroRunRemover()
    kept = squeezer.remove_runs(b"a" + bytes(20))
    with pytest.raises(MalformedPackError):
        _back(squeezer, kept, 20)
