"""Every field of every signed list with other values, signed well: refused, or of equal meaning."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from securesystemslib.formats import encode_canonical

from ncen_updater.feed.errors import BadSignatureError, MetadataDamagedError
from ncen_updater.feed.fetching import FeedFileMissingError, LocalFetcher
from ncen_updater.feed.offers import FeedView, parse_offers
from ncen_updater.feed.tuf_source import TufReleaseSource
from tests.badinput.hostile import FEW, json_values, spoilt, typed
from tests.support.rotation import chance
from tests.support.tuf_repository import Feed

SOME = settings(FEW, max_examples=25)  # a whole refresh each
ROLES = ("root", "timestamp", "snapshot", "targets", "ncen")
VALUES: tuple[object, ...] = (
    None, True, -1, 0, 2**63, 10**400, 1.5, "", "\ud800", "a\0b", "../..", "9999-99-99T00:00:00Z",
    "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", [], {}, [[]], {"": None}, [None], "x" * 3000,
)  # fmt: skip


class Directory(LocalFetcher):
    """Reads a feed from the disk: thousands of refreshes need no server each."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def get_length(self, name: str) -> int:
        try:
            return (self._directory / name).stat().st_size
        except FileNotFoundError as error:
            raise FeedFileMissingError(name) from error

    def read_blocks(self, name: str, offset: int) -> Iterator[bytes]:
        yield (self._directory / name).read_bytes()[offset:]


@dataclass
class Place:
    """A feed and a site that has read it once."""

    feed: Feed
    state: Path
    root: Path
    view: FeedView

    def source(self, state: Path) -> TufReleaseSource:
        return TufReleaseSource(
            "ncen",
            state=state,
            trusted_root=self.root,
            make_fetcher=lambda: Directory(self.feed.directory),
        )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    directory = tmp_path_factory.mktemp("signed")
    feed = Feed(directory / "feed")
    feed.add_release("3.3.0", manifest={"upgrade_from": ">=3.2"})
    for role in ROLES:
        feed.roles[role].unrecognized_fields["x-ncen-role"] = role
        feed.roles[role].unrecognized_fields["x-ncen-issued"] = feed.now.isoformat()
    feed.roles["timestamp"].unrecognized_fields["x-ncen-root"] = 2
    feed.publish()
    root = feed.trusted_root(directory / "root.json")
    feed.rotate_root()
    made = Place(feed, directory / "state", root, None)  # type: ignore[arg-type]
    made.view = made.source(made.state).refresh()
    return made


def file_of(feed: Feed, role: str) -> Path:
    """The served metadata file of a role."""
    if role == "timestamp":
        return feed.metadata / "timestamp.json"
    return feed.metadata / f"{feed.roles[role].version}.{role}.json"


def fields(value: Any, at: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    """Every place in a JSON value."""
    yield at
    inner: Iterable[tuple[object, Any]] = value.items() if isinstance(value, dict) else ()
    inner = enumerate(value) if isinstance(value, list) else inner
    for key, item in inner:
        yield from fields(item, (*at, key))


def put(whole: Any, at: tuple[object, ...], value: object) -> Any:
    """Return a copy with another value somewhere."""
    if not at:
        return value
    changed = copy.deepcopy(whole)
    spot = changed
    for key in at[:-1]:
        spot = spot[key]
    spot[at[-1]] = value
    return changed


def signed_again(feed: Feed, role: str, signed: object) -> bytes:
    """Sign any value with the keys of a role, where there is anything that can be signed."""
    try:
        content = encode_canonical(signed).encode()
        signatures = [signer.sign(content).to_dict() for signer in feed.signers[role]]
    except Exception:  # noqa: BLE001  # no canonical form: signatures of something else
        signatures = [signer.sign(b"x").to_dict() for signer in feed.signers[role]]
    return json.dumps({"signatures": signatures, "signed": signed}).encode()


def judge(place: Place, role: str, content: bytes, scratch: Path, *, known: bool) -> None:
    """Serve bytes in place of metadata; a site refuses them or sees the original."""
    path = file_of(place.feed, role)
    good = path.read_bytes()
    shutil.rmtree(scratch, ignore_errors=True)
    if known:
        shutil.copytree(place.state, scratch)
        # Otherwise the stored list would do, and the served one would not be read.
        (scratch / "metadata" / f"{role}.json").unlink()
    seen: list[FeedView] = []
    path.write_bytes(content)
    try:
        error = typed(lambda: seen.append(place.source(scratch).refresh()))
    finally:
        path.write_bytes(good)
    if error is not None:
        before = place.source(place.state).load_last_view() if known else None
        assert place.source(scratch).load_last_view() == before
        assert not (scratch / "downloads").exists()
    elif role == "targets":  # its signers may take paths away from the product
        assert all(offer in place.view.offers for offer in seen[0].offers)
    elif role != "ncen":  # what the product's signers sign differently is offered differently
        assert seen[0].offers == place.view.offers
    if isinstance(error, BadSignatureError | MetadataDamagedError) and error.values["role"] == role:
        assert typed(lambda: place.source(scratch).refresh()) is None, "nothing of it was kept"


@pytest.mark.parametrize("role", ROLES)
def test_hostile_values_in_every_metadata_field_are_handled(
    place: Place, tmp_path: Path, role: str
) -> None:
    signed = json.loads(file_of(place.feed, role).read_bytes())["signed"]
    choice = chance(f"hostile values in {role}")
    for at in fields(signed):
        content = signed_again(place.feed, role, put(signed, at, choice.choice(VALUES)))
        judge(place, role, content, tmp_path / "scratch", known=role == "root")


@pytest.mark.parametrize("role", ROLES)
@SOME
@given(data=st.data())
def test_arbitrary_values_in_metadata_are_handled(
    place: Place, tmp_path: Path, role: str, data: st.DataObject
) -> None:
    signed = json.loads(file_of(place.feed, role).read_bytes())["signed"]
    at = data.draw(st.sampled_from(list(fields(signed))))
    content = signed_again(place.feed, role, put(signed, at, data.draw(json_values())))
    judge(place, role, content, tmp_path / "scratch", known=False)


@pytest.mark.parametrize("role", ROLES)
@SOME
@given(data=st.data())
def test_arbitrary_bytes_as_metadata_are_handled(
    place: Place, tmp_path: Path, role: str, data: st.DataObject
) -> None:
    content = data.draw(spoilt(file_of(place.feed, role).read_bytes()))
    judge(place, role, content, tmp_path / "scratch", known=False)


@SOME
@given(data=st.data())
def test_arbitrary_stored_metadata_is_verified(
    place: Place, tmp_path: Path, data: st.DataObject
) -> None:
    """What lies on the disk of a site is trusted no more than what is served."""
    scratch = tmp_path / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(place.state, scratch)
    path = scratch / "metadata" / f"{data.draw(st.sampled_from(ROLES))}.json"
    path.write_bytes(data.draw(spoilt(path.read_bytes())))
    assert typed(lambda: place.source(scratch).refresh()) is None
    view = place.source(scratch).load_last_view()
    assert view is not None
    assert view.offers == place.view.offers


@dataclass
class Named:
    """The signed description of a file."""

    length: int
    hashes: dict[str, str]
    custom: object


def test_hostile_values_in_every_offer_field_are_handled(place: Place) -> None:
    files = place.feed.roles["ncen"].targets
    name = "releases/ncen/3.3.0.json"
    good = files[name]
    custom = good.custom
    (before,) = parse_offers("ncen", files)
    for at in fields(custom):
        for value in VALUES:
            changed = Named(good.length, good.hashes, put(custom, at, value))
            found: list[object] = []
            error = typed(
                lambda changed=changed, found=found: found.extend(  # type: ignore[misc]
                    parse_offers("ncen", {**files, name: changed})
                )
            )
            if error is None:
                (offer,) = found
                same = {"product", "version", "archive"}
                assert offer.model_dump(include=same) == before.model_dump(  # type: ignore[attr-defined]
                    include=same
                )


def test_refused_metadata_does_not_move_the_clock_floor(place: Place, tmp_path: Path) -> None:
    signed = json.loads(file_of(place.feed, "ncen").read_bytes())["signed"]
    late = datetime.max.replace(tzinfo=UTC).isoformat()
    content = signed_again(place.feed, "ncen", put(signed, ("x-ncen-issued",), late))
    judge(place, "ncen", content.replace(b'"sig": "', b'"sig": "0'), tmp_path / "s", known=False)
    floor = json.loads((tmp_path / "s/clock.json").read_text())["floor"]
    assert floor == place.feed.now.isoformat()
