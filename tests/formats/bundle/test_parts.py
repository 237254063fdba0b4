"""A bundle over several media: in any order, and each mishap told by its part."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from ncen_updater.common.cli.render import format_bytes
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import (
    MEDIA_TOO_SMALL,
    NOT_A_BUNDLE,
    PART_FOREIGN,
    PART_MISSING,
    PUBLISHER_BUNDLE_EXISTS,
)
from ncen_updater.formats.bundle.parts import HEADER_BYTES
from tests.formats.bundle.conftest import OfflineSite, Publication
from tests.support.errors import refused

MEDIA = 30_000
Parts = list[Path]


@pytest.fixture(scope="session")
def written(shared: Publication, tmp_path_factory: pytest.TempPathFactory) -> Parts:
    output = tmp_path_factory.mktemp("parts") / "ke.ncen"
    return list(shared.export(output, media_bytes=MEDIA).files)


@pytest.fixture
def parts(written: Parts, tmp_path: Path) -> Parts:
    """Copies that a test may spoil."""
    return [Path(shutil.copy(path, tmp_path)) for path in written]


def test_parts_in_any_order(parts: Parts, bundle: Path, site: OfflineSite) -> None:
    assert len(parts) >= 3
    assert parts[0].name == f"ke.part-1-of-{len(parts)}.ncen"
    assert all(path.stat().st_size <= MEDIA for path in parts)
    whole = b"".join(path.read_bytes()[HEADER_BYTES:] for path in parts)
    assert whole == bundle.read_bytes()
    assert site.take(*reversed(parts)).reaches == "3.4.0"
    assert site.take(*parts[1:], parts[0]).reaches == "3.4.0"


def missing(parts: Parts) -> Parts:
    return [parts[0], *parts[2:]]


def twice(parts: Parts) -> Parts:
    copy = Path(shutil.copy(parts[1], parts[1].with_name("copy.ncen")))
    return [*parts, copy]


def half(parts: Parts) -> Parts:
    parts[1].write_bytes(parts[1].read_bytes()[:-500])
    return parts


def header_only_in_part(parts: Parts) -> Parts:
    parts[1].write_bytes(parts[1].read_bytes()[:100])
    return parts


def longer(parts: Parts) -> Parts:
    parts[1].write_bytes(parts[1].read_bytes() + b"x")
    return parts


def flipped(parts: Parts) -> Parts:
    content = bytearray(parts[1].read_bytes())
    content[HEADER_BYTES + 9000] ^= 1
    parts[1].write_bytes(content)
    return parts


def header_altered(parts: Parts) -> Parts:
    content = bytearray(parts[1].read_bytes())
    content[content.index(b'"part": 2') + 8] = ord("3")
    parts[1].write_bytes(content)
    return parts


def header_nonsense(parts: Parts) -> Parts:
    content = parts[1].read_bytes()
    parts[1].write_bytes(content[:19] + b"[1, 2]".ljust(HEADER_BYTES - 19) + content[4096:])
    return parts


def another_file(parts: Parts) -> Parts:
    parts[1].write_bytes(b"Dear customs,")
    return parts


def whole_among_parts(parts: Parts) -> Parts:
    content = b"".join(path.read_bytes()[HEADER_BYTES:] for path in parts)
    parts[1].write_bytes(content)
    return parts


ROWS: dict[str, tuple[Callable[[Parts], Parts], type[UpdaterError], str]] = {
    "missing": (missing, UpdaterError, "missing: 2"),
    "twice": (twice, UpdaterError, "Part 2"),
    "half copied": (half, UpdaterError, "Part 2"),
    "header half copied": (header_only_in_part, UpdaterError, "only in part"),
    "longer": (longer, UpdaterError, "Part 2"),
    "flipped bit": (flipped, UpdaterError, "Part 2"),
    "header altered": (header_altered, UpdaterError, "Part 3"),
    "header nonsense": (header_nonsense, UpdaterError, "altered"),
    "another file": (another_file, UpdaterError, "another bundle"),
    "whole bundle among parts": (whole_among_parts, UpdaterError, "another bundle"),
}


@pytest.mark.parametrize("name", ROWS)
def test_each_mishap_names_the_part(name: str, parts: Parts, site: OfflineSite) -> None:
    spoil, error, words = ROWS[name]
    with pytest.raises(error, match=words):
        site.take(*spoil(parts))
    assert site.contents() == {}


def test_a_part_of_another_bundle(
    publication: Publication, parts: Parts, site: OfflineSite, tmp_path: Path
) -> None:
    output = tmp_path / "other" / "ke.ncen"
    other = publication.export(output, media_bytes=MEDIA).files
    ours = replace(site)
    with refused(PART_FOREIGN, match="another bundle"):
        ours.take(parts[0], other[1], *parts[2:])
    assert site.contents() == {}


def test_missing_parts_are_told_with_the_room_that_a_copy_takes(
    parts: Parts, site: OfflineSite
) -> None:
    with refused(PART_MISSING) as caught:
        site.take(parts[1])
    room = sum(path.stat().st_size for path in parts)
    assert f"takes {format_bytes(room)}" in str(caught.value.remedy_text)


def test_nothing_given(site: OfflineSite) -> None:
    with refused(NOT_A_BUNDLE):
        site.take()


def test_what_is_there_is_not_written_over(shared: Publication, written: Parts) -> None:
    before = [path.read_bytes() for path in written]
    with refused(PUBLISHER_BUNDLE_EXISTS):
        shared.export(written[0].parent / "ke.ncen", media_bytes=MEDIA)
    assert [path.read_bytes() for path in written] == before


def test_media_too_small(shared: Publication, tmp_path: Path) -> None:
    with refused(MEDIA_TOO_SMALL):
        shared.export(tmp_path / "ke.ncen", media_bytes=HEADER_BYTES)
    assert not list(tmp_path.iterdir())
