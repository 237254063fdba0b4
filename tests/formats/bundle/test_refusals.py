"""Tests that each invalid bundle has its own code, and nothing of it is stored."""

from __future__ import annotations

import os
import random
import shutil
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from packaging.version import Version

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import (
    BUNDLE_ALTERED,
    BUNDLE_DOES_NOT_FIT,
    BUNDLE_FOR_OTHERS,
    BUNDLE_INCOMPLETE,
    BUNDLE_NOT_SIGNED,
    BUNDLE_OLDER,
    BUNDLE_TOO_OLD,
    BUNDLE_TRUNCATED,
    BUNDLE_UNREADABLE,
    BUNDLE_UNSAFE,
    NOT_A_BUNDLE,
    ROOT_CHAIN_BROKEN,
    ROOTS_HIDDEN,
    UNKNOWN_RELEASE,
    ErrorMessage,
    ExitCode,
)
from ncen_updater.feed.errors import RoleExpiredError
from ncen_updater.publisher.distribute.bundle_export import ExportRequest, ExportSite
from tests.formats.bundle.conftest import ORDER, OfflineSite, Publication
from tests.formats.bundle.forging import add, edited, flag_as_encrypted, members, odd, well_formed
from tests.support.errors import has_message, refused

DAYS = timedelta(days=1)


@dataclass(frozen=True)
class Row:
    """What is done to a good bundle, and the error that it has to give."""

    make: Callable[[Path, Path], Path]
    error: ErrorMessage | type[UpdaterError]
    words: str


def changed(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path, Path], Path]:
    """The member that begins with ``name`` has another content, with a right checksum."""

    def make(bundle: Path, path: Path) -> Path:
        contents = members(bundle)
        found = next(key for key in contents if key.startswith(name))
        return well_formed(path, {**contents, found: change(contents[found])})

    return make


def without(name: str) -> Callable[[Path, Path], Path]:
    def make(bundle: Path, path: Path) -> Path:
        kept = {key: value for key, value in members(bundle).items() if name not in key}
        return well_formed(path, kept)

    return make


def with_odd(change: Callable[[zipfile.ZipFile], None]) -> Callable[[Path, Path], Path]:
    return lambda bundle, path: odd(path, members(bundle), change)


def patched(at: Callable[[bytes], int], value: bytes) -> Callable[[Path, Path], Path]:
    def make(bundle: Path, path: Path) -> Path:
        content = bytearray(bundle.read_bytes())
        place = at(bytes(content))
        content[place : place + len(value)] = value
        path.write_bytes(content)
        return path

    return make


def longer(bundle: Path, path: Path) -> Path:
    path.write_bytes(bundle.read_bytes() + b"and more")
    return path


def written(content: bytes) -> Callable[[Path, Path], Path]:
    def make(_bundle: Path, path: Path) -> Path:
        path.write_bytes(content)
        return path

    return make


def pipe(_bundle: Path, path: Path) -> Path:
    os.mkfifo(path)
    return path


def zip64_lie(bundle: Path, path: Path) -> Path:
    """An end record that points to a 64-bit one which is not there."""
    content = bytearray(bundle.read_bytes())
    content[-6:-2] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    return path


def farther(data: dict[str, object]) -> None:
    data["expires"] = "2099-01-01T00:00:00Z"


def forged(content: bytes) -> bytes:
    return edited(content, farther)


BOMB = add("targets/x", b"0" * 10**7, compressed=True)
ROWS = {
    "empty": Row(written(b""), NOT_A_BUNDLE, "not an offline bundle"),
    "text": Row(written(b"Dear customs, " * 100), NOT_A_BUNDLE, "not an offline bundle"),
    "pipe": Row(pipe, NOT_A_BUNDLE, "not an offline bundle"),
    "not there": Row(lambda _, path: path, BUNDLE_UNREADABLE, "Cannot read"),
    "end cut off": Row(
        lambda b, p: written(b.read_bytes()[:-1])(b, p), BUNDLE_TRUNCATED, "is truncated"
    ),
    "something after the end": Row(longer, BUNDLE_TRUNCATED, "is truncated"),
    "compressed": Row(with_odd(add("targets/x", compressed=True)), BUNDLE_UNSAFE, "compress"),
    "bomb": Row(with_odd(BOMB), BUNDLE_UNSAFE, "compress"),
    "link": Row(with_odd(add("targets/x", b"/etc/passwd", mode=0o120777)), BUNDLE_UNSAFE,
                "regular file"),
    "directory": Row(with_odd(add("targets/", b"", mode=0o40755)), BUNDLE_UNSAFE, "regular file"),
    "absolute name": Row(with_odd(add("/etc/passwd")), BUNDLE_UNSAFE, "unknown member name"),
    "climbing name": Row(with_odd(add("targets/../../x")), BUNDLE_UNSAFE, "unknown member name"),
    "odd member": Row(with_odd(add("setup.exe")), BUNDLE_UNSAFE, "unknown member name"),
    "foreign letters": Row(with_odd(add("targets/é")), BUNDLE_UNSAFE, "unknown member name"),
    "encrypted": Row(flag_as_encrypted, BUNDLE_UNSAFE, "encrypted"),
    "zip64 lie": Row(zip64_lie, BUNDLE_UNSAFE, "length mismatch"),
    "too many": Row(
        patched(lambda c: len(c) - 14, struct.pack("<HH", 60000, 60000)), BUNDLE_UNSAFE, "many"
    ),
    "size lie": Row(
        patched(lambda c: c.index(b"PK\x01\x02") + 24, b"\xff\xff\xff\x7f"), BUNDLE_UNSAFE, "length"
    ),
    "timestamp with another date": Row(
        changed("metadata/timestamp", forged), BUNDLE_NOT_SIGNED, "timestamp"
    ),
    "snapshot with another date": Row(
        changed("metadata/4.snapshot", forged), BUNDLE_NOT_SIGNED, "'snapshot'"
    ),
    "list with another date": Row(
        changed("metadata/4.ncen.json", forged), BUNDLE_NOT_SIGNED, "'ncen'"
    ),
    "timestamp that is no metadata": Row(
        changed("metadata/timestamp", lambda _: b"{}"), BUNDLE_ALTERED, "timestamp"
    ),
    "endless timestamp": Row(
        changed("metadata/timestamp", lambda c: c + b" " * 10**6), BUNDLE_ALTERED, "timestamp"
    ),
    "no timestamp": Row(without("timestamp"), BUNDLE_INCOMPLETE, "timestamp"),
    "no snapshot": Row(without("snapshot"), BUNDLE_INCOMPLETE, "snapshot"),
    "no list": Row(without(".ncen.json"), BUNDLE_INCOMPLETE, "ncen.json"),
    "no root": Row(without(".root."), BUNDLE_INCOMPLETE, "root"),
    "no archive": Row(without("ncen-3.3.0.tar.gz"), BUNDLE_INCOMPLETE, "ncen-3.3.0.tar.gz"),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_invalid_bundle_is_refused_with_its_code_and_changes_nothing(
    name: str, bundle: Path, site: OfflineSite, tmp_path: Path
) -> None:
    row = ROWS[name]
    path = row.make(bundle, tmp_path / "bad.ncen")
    site.take(bundle)  # there is something to lose
    before = site.contents()
    with refused(row.error) as caught:
        site.take(path)
    assert row.words in str(caught.value)
    assert str(caught.value.remedy_text)
    assert site.contents() == before
    assert not list(site.state.glob("import.*"))
    assert [offer.version for offer in site.refresh().offers] == ["3.2.0", "3.3.0", "3.4.0"]


def test_duplicate_member_names_are_refused(
    bundle: Path, site: OfflineSite, tmp_path: Path
) -> None:
    def twice(archive: zipfile.ZipFile) -> None:
        with pytest.warns(UserWarning, match="Duplicate"):
            add("metadata/timestamp.json")(archive)

    with refused(BUNDLE_UNSAFE, match="duplicate path"):
        site.take(odd(tmp_path / "bad.ncen", members(bundle), twice))
    assert site.contents() == {}


def test_altered_payload_under_its_signed_name_is_refused(
    bundle: Path, site: OfflineSite, tmp_path: Path
) -> None:
    contents = members(bundle)
    name = next(key for key in contents if key.endswith("ncen-3.4.0.tar.gz"))
    contents[name] = contents[name][:-1] + b"x"
    with refused(BUNDLE_ALTERED, match=r"ncen-3\.4\.0"):
        site.take(well_formed(tmp_path / "bad.ncen", contents))
    assert site.contents() == {}


def test_truncation_at_any_block_is_refused(
    bundle: Path, site: OfflineSite, tmp_path: Path
) -> None:
    content = bundle.read_bytes()
    cuts = range(0, len(content), 4096)
    assert len(cuts) > 5
    for length in cuts:
        path = tmp_path / "cut.ncen"
        path.write_bytes(content[:length])
        with refused(BUNDLE_TRUNCATED, NOT_A_BUNDLE) as caught:
            site.take(path)
        assert has_message(caught.value, BUNDLE_TRUNCATED) or length == 0
    assert site.contents() == {}


def test_any_flipped_bit_is_found(bundle: Path, site: OfflineSite, tmp_path: Path) -> None:
    content = bundle.read_bytes()
    rng = random.Random(7)
    directory = content.index(b"PK\x01\x02")
    places = [
        *range(60),
        *range(directory, directory + 60),
        *range(len(content) - 30, len(content)),
    ]
    places += rng.sample(range(len(content)), 60)
    path = tmp_path / "flipped.ncen"
    for place in places:
        flipped = bytearray(content)
        flipped[place] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        with pytest.raises(UpdaterError) as caught:
            site.take(path)
        assert caught.value.code.startswith("NU-23")
    assert site.contents() == {}


def test_bundle_for_another_country_is_refused(
    publication: Publication, site: OfflineSite, order: Callable[..., ExportRequest], tmp_path: Path
) -> None:
    publication.publish("3.5.0", extra="# only there\n")
    manifest = 'upgrade_from = ">=3.2"\ncountries = ["UG"]'
    place = publication.sources / "ncen-3.6.0"
    from demo.release_flow import publish_release
    from tests.publisher.releases import write_release

    write_release(place, "3.6.0")
    text = (place / "manifest.toml").read_text().replace('upgrade_from = ">=3.2"', manifest)
    (place / "manifest.toml").write_text(text)
    publish_release(publication.directory, [place], publication.keys, publication.clock)
    uganda = order(sites=(ExportSite("UG", "ug-national"),), origin=Version("3.5.0"))
    publication.export(tmp_path / "ug.ncen", uganda)
    ours = replace(site, root=publication.root)
    with refused(BUNDLE_FOR_OTHERS, match=r"UG.*not for KE"):
        ours.take(tmp_path / "ug.ncen")
    assert ours.contents() == {}


def test_bundle_for_another_product_is_refused(bundle: Path, site: OfflineSite) -> None:
    ours = replace(site, product="ncen-updater")
    with refused(BUNDLE_FOR_OTHERS, match="for ncen, not for ncen-updater"):
        ours.take(bundle)
    assert ours.contents() == {}


def test_bundle_from_another_installed_release_is_refused(
    shared: Publication, site: OfflineSite, order: Callable[..., ExportRequest], tmp_path: Path
) -> None:
    shared.export(tmp_path / "late.ncen", order(origin=Version("3.3.0")))
    with refused(BUNDLE_DOES_NOT_FIT) as caught:
        site.take(tmp_path / "late.ncen")
    assert caught.value.values["missing"] == "3.3.0"
    assert site.contents() == {}
    shared.export(tmp_path / "first.ncen", order(target=Version("3.3.0")))
    assert site.take(tmp_path / "first.ncen").reachable_release == "3.3.0"
    assert (
        site.take(tmp_path / "late.ncen").reachable_release == "3.4.0"
    )  # the missing one is here now


@pytest.mark.parametrize("lost", ["ncen-3.3.0.tar.gz", "tree.json.zst", "verified.json"])
def test_interrupted_download_does_not_complete_a_bundle(
    shared: Publication,
    site: OfflineSite,
    order: Callable[..., ExportRequest],
    tmp_path: Path,
    lost: str,
) -> None:
    shared.export(tmp_path / "late.ncen", order(origin=Version("3.3.0")))
    shared.export(tmp_path / "first.ncen", order(target=Version("3.3.0")))
    site.take(tmp_path / "first.ncen")
    (site.state / "downloads/ncen/3.3.0" / lost).unlink()
    with refused(BUNDLE_DOES_NOT_FIT) as caught:
        site.take(tmp_path / "late.ncen")
    assert caught.value.values["missing"] == "3.3.0"


def test_refusal_names_the_newest_release_of_the_bundle(
    publication: Publication,
    site: OfflineSite,
    order: Callable[..., ExportRequest],
    tmp_path: Path,
) -> None:
    for version in ("3.5.0", "3.6.0"):
        publication.publish(version, required=True)
    publication.export(tmp_path / "late.ncen", order(origin=Version("3.4.0")))
    ours = replace(site, root=publication.root)
    with refused(BUNDLE_DOES_NOT_FIT) as caught:
        ours.take(tmp_path / "late.ncen")
    assert caught.value.values["version"] == "3.6.0"


def test_bundle_of_another_feed_is_refused(
    publication: Publication, site: OfflineSite, tmp_path: Path
) -> None:
    publication.export(tmp_path / "foreign.ncen")
    with refused(BUNDLE_NOT_SIGNED):
        site.take(tmp_path / "foreign.ncen")
    assert site.contents() == {}


def test_older_bundle_after_a_newer_one_is_refused(
    publication: Publication, site: OfflineSite, tmp_path: Path
) -> None:
    publication.export(tmp_path / "old.ncen")
    publication.at += 5 * DAYS
    publication.refresh()
    publication.export(tmp_path / "new.ncen")
    ours = replace(site, root=publication.root, at=publication.at)
    ours.take(tmp_path / "new.ncen")
    before = ours.contents()
    with refused(BUNDLE_OLDER, match="older than the verified metadata"):
        ours.take(tmp_path / "old.ncen")
    assert ours.contents() == before
    ours.take(tmp_path / "new.ncen")  # the same once more is no older one


def test_grace_is_bounded_and_only_for_short_lived_roles(
    bundle: Path, site: OfflineSite, tmp_path: Path
) -> None:
    late = replace(site, at=site.at + 90 * DAYS)
    assert late.take(bundle, dry_run=True).reachable_release == "3.4.0"
    for days, grace in ((98, 90), (8, 0)):
        with refused(BUNDLE_TOO_OLD) as caught:
            replace(site, at=site.at + days * DAYS, grace=grace * DAYS).take(bundle)
        assert caught.value.values["days"] == grace
        assert caught.value.exit_code is ExitCode.FEED_STALE
    with pytest.raises(RoleExpiredError) as strict:
        replace(site, at=site.at + 366 * DAYS, grace=500 * DAYS).take(bundle)
    assert strict.value.values["role"] in ("root", "targets", "ncen")
    assert site.contents() == {}


def test_imported_metadata_expires(bundle: Path, site: OfflineSite) -> None:
    site.take(bundle)
    replace(site, at=site.at + 90 * DAYS).refresh()
    with pytest.raises(RoleExpiredError, match="timestamp"):
        replace(site, at=site.at + 98 * DAYS).refresh()


def test_clock_behind_is_raised_to_the_signed_time(
    publication: Publication, site: OfflineSite, tmp_path: Path
) -> None:
    old = publication.export(tmp_path / "old.ncen").file
    behind = replace(site, root=publication.root, at=site.at - 3000 * DAYS)
    behind.take(old)
    publication.at += 200 * DAYS
    publication.publish("3.5.0")
    later = publication.export(tmp_path / "later.ncen").file
    behind.take(later)
    # Signed 200 days later: the first metadata has expired by this clock, too.
    shutil.rmtree(behind.state / "metadata")
    before = behind.contents()
    with refused(BUNDLE_TOO_OLD):
        behind.take(old)
    assert behind.contents() == before


def test_gap_in_the_roots_is_refused(bundle: Path, site: OfflineSite, tmp_path: Path) -> None:
    contents = members(bundle)
    root = contents["metadata/1.root.json"]
    holed = {**contents, "metadata/3.root.json": root}
    with refused(ROOT_CHAIN_BROKEN, match="root 2 is missing"):
        site.take(well_formed(tmp_path / "bad.ncen", holed))
    assert site.contents() == {}


def test_missing_newest_root_is_refused(
    publication: Publication, site: OfflineSite, tmp_path: Path
) -> None:
    from ncen_updater.publisher.feed.feed_directory import FeedDirectory
    from ncen_updater.publisher.new.trial import publish_draft
    from ncen_updater.publisher.signing.draft import draft_renewal

    state = FeedDirectory(publication.directory).read_state()
    draft = draft_renewal(state, ["root"], publication.at)
    publish_draft(publication.directory, draft, publication.keys, publication.clock)
    good = publication.export(tmp_path / "good.ncen").file
    ours = replace(site, root=publication.root)
    assert ours.take(good, dry_run=True).reachable_release == "3.4.0"
    kept = {n: c for n, c in members(good).items() if n != "metadata/2.root.json"}
    with refused(ROOTS_HIDDEN):
        ours.take(well_formed(tmp_path / "bad.ncen", kept))
    assert ours.contents() == {}


def test_release_missing_in_the_feed_is_reported(publication: Publication, tmp_path: Path) -> None:
    """A publisher gets the feed's releases, and no command of a site."""
    order = replace(ORDER, target=Version("9.9.9"))
    with refused(UNKNOWN_RELEASE) as caught:
        publication.export(tmp_path / "b.ncen", order)
    assert "ncen-publisher status" in caught.value.remedy_text.render()
    assert not (tmp_path / "b.ncen").exists()
