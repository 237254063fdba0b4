"""Tests of a dishonest drafter and hostile media: each refused with a code before signing."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tuf.api.metadata import Metadata, Role  # type: ignore[attr-defined]

from demo.release_flow import withdraw
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import (
    BAD_DATES,
    BAD_EVENT,
    DUPLICATE_KEY,
    EVENT_BASE_UNTRUSTED,
    KEY_NOT_ALLOWED,
    OWN_ROOT_REQUIRED,
    UNSOUND_DRAFT,
    ErrorMessage,
)
from ncen_updater.formats.release_document import Withdrawal
from ncen_updater.publisher.distribute.feed_status import read_signature_status
from ncen_updater.publisher.distribute.publishing import Publisher
from ncen_updater.publisher.feed.feed_directory import FeedDirectory
from ncen_updater.publisher.new.trial import FeedKeys, create_feed
from ncen_updater.publisher.signing.draft import draft_renewal
from ncen_updater.publisher.signing.event_diff import describe_event
from ncen_updater.publisher.signing.keys import compute_keyid
from ncen_updater.publisher.signing.signing_event import SigningEvent, compute_signed_digest
from tests.publisher.feeds import contents, drafted, fresh_signer
from tests.publisher.releases import NOW, clock
from tests.support.errors import refused

Roles = dict[str, Metadata[Any]]


def event_with(
    feed: Path, place: Path, change: Callable[[Roles], None], *roles: str
) -> SigningEvent:
    """An event whose drafts were changed before its digests were taken: it agrees with itself."""
    state = FeedDirectory(feed).read_state()
    drafts = dict(draft_renewal(state, roles, NOW).roles)
    change(drafts)
    return SigningEvent.create(place, "Renewal", drafts, state)


def _twin(drafts: Roles) -> None:
    """One signer's key a second time, under another name and so another id."""
    root = drafts["root"].signed
    keyid = root.roles["root"].keyids[0]
    data = root.keys[keyid].to_dict() | {"x-ncen-keyowner": "twin"}
    twin = type(root.keys[keyid]).from_dict("0" * 64, copy.deepcopy(data))
    twin.keyid = compute_keyid(twin)
    root.add_key(twin, "root")


def _foreign_id(drafts: Roles) -> None:
    root = drafts["root"].signed
    key = copy.deepcopy(root.keys[root.roles["root"].keyids[0]])
    key.keyid = "0" * 64
    root.add_key(key, "root")


def _online_signer(drafts: Roles) -> None:
    root = drafts["root"].signed
    root.roles["root"].keyids += root.roles["timestamp"].keyids


def _too_high(drafts: Roles) -> None:
    drafts["root"].signed.roles["targets"].threshold = 9


def _no_such_key(drafts: Roles) -> None:
    root = drafts["root"].signed
    root.roles["timestamp"] = Role(["1" * 64], 1)


def _inconsistent(drafts: Roles) -> None:
    drafts["root"].signed.consistent_snapshot = False


def _no_policy(drafts: Roles) -> None:
    del drafts["root"].signed.unrecognized_fields["x-ncen-policy"]


def _for_ever(drafts: Roles) -> None:
    drafts["targets"].signed.expires += timedelta(days=1)


def _no_issue_time(drafts: Roles) -> None:
    drafts["targets"].signed.unrecognized_fields["x-ncen-issued"] = "soon"


def _walks_on(drafts: Roles) -> None:
    drafts["targets"].signed.delegations.roles["ncen"].terminating = False


def _other_version(drafts: Roles) -> None:
    custom = drafts["ncen"].signed.targets["releases/ncen/3.3.0.json"].custom["ncen"]
    custom["version"] = "9.9.9"


def _other_archive(drafts: Roles) -> None:
    custom = drafts["ncen"].signed.targets["releases/ncen/3.3.0.json"].custom["ncen"]
    custom["archive"]["sha256"] = "0" * 64


def _no_digest(drafts: Roles) -> None:
    target = drafts["ncen"].signed.targets["ncen-3.3.0.tar.gz"]
    target.hashes = {"md5": "0" * 32}


def _named(name: str) -> Callable[[Roles], None]:
    def change(drafts: Roles) -> None:
        targets = drafts["ncen"].signed.targets
        target = copy.deepcopy(targets["ncen-3.3.0.tar.gz"])
        target.path = name
        targets[name] = target

    return change


@pytest.mark.parametrize(
    ("change", "roles", "message"),
    [
        (_twin, ("root",), DUPLICATE_KEY),
        (_foreign_id, ("root",), UNSOUND_DRAFT),
        (_online_signer, ("root",), KEY_NOT_ALLOWED),
        (_too_high, ("root",), UNSOUND_DRAFT),
        (_no_such_key, ("root",), UNSOUND_DRAFT),
        (_inconsistent, ("root",), UNSOUND_DRAFT),
        (_no_policy, ("root",), UNSOUND_DRAFT),
        (_for_ever, ("targets",), BAD_DATES),
        (_no_issue_time, ("targets",), BAD_DATES),
        (_walks_on, ("targets",), UNSOUND_DRAFT),
        (_other_version, ("ncen",), UNSOUND_DRAFT),
        (_other_archive, ("ncen",), UNSOUND_DRAFT),
        (_no_digest, ("ncen",), UNSOUND_DRAFT),
        (_named("releases/ncen/../../x"), ("ncen",), UNSOUND_DRAFT),
        (_named("releases/ncen/a\u202egnp.json"), ("ncen",), UNSOUND_DRAFT),
        (_named("sbom/ncen/a\nncen: nothing"), ("ncen",), UNSOUND_DRAFT),
        (_named("deltas/ncen/\u0430"), ("ncen",), UNSOUND_DRAFT),
        (_named("ncen-updater-9.tar.gz"), ("ncen",), UNSOUND_DRAFT),
    ],
)
def test_implausible_draft_is_refused(
    feed: Path,
    tmp_path: Path,
    change: Callable[[Roles], None],
    roles: tuple[str, ...],
    message: ErrorMessage,
) -> None:
    with refused(message):
        event_with(feed, tmp_path / "event", change, *roles)


def test_invalid_policy_is_refused_with_its_fields(feed: Path, tmp_path: Path) -> None:
    def change(drafts: Roles) -> None:
        policy = drafts["root"].signed.unrecognized_fields["x-ncen-policy"]
        policy["expiry_days"]["timestamp"] = 0
        policy["retention"] = 3

    with refused(UNSOUND_DRAFT) as caught:
        event_with(feed, tmp_path / "event", change, "root")
    assert caught.value.title_text.render() == (
        "Invalid draft of root: invalid field x-ncen-policy: "
        "expiry_days.timestamp: Use at least 1.; retention: unknown name"
    )


def test_future_issue_time_is_refused(feed: Path, tmp_path: Path, keys: FeedKeys) -> None:
    """It would become the least time of every site's clock, and shut them all out."""

    def ahead(drafts: Roles) -> None:
        drafts["ncen"].signed.unrecognized_fields["x-ncen-issued"] = "2027-06-01T00:00:00Z"

    event = event_with(feed, tmp_path / "event", ahead, "ncen")
    with refused(BAD_DATES):
        event.refuse_future_drafts(NOW)
    for officer in keys.signers[:2]:
        event.sign_drafts(officer, event.digest)
    before = contents(feed)
    with refused(BAD_DATES):
        Publisher(FeedDirectory(feed), clock).publish_event(event, [], keys.online)
    assert contents(feed) == before


@pytest.mark.parametrize("hidden", ["scheme", "unused key", "field", "second digest", "beside"])
def test_unknown_fields_are_shown(feed: Path, tmp_path: Path, hidden: str) -> None:
    """Fields without a sentence of their own are listed by their place."""

    def change(drafts: Roles) -> None:
        root, ncen = drafts["root"].signed, drafts["ncen"].signed
        if hidden == "scheme":
            root.roles["root"].unrecognized_fields["x-scheme"] = "HIDDEN"
        elif hidden == "unused key":
            key = copy.deepcopy(next(iter(root.keys.values())))
            key.keyval["public"] = "ab" * 32
            key.unrecognized_fields["x-ncen-keyowner"] = "HIDDEN"
            key.keyid = compute_keyid(key)
            root.keys[key.keyid] = key
        elif hidden == "field":
            ncen.targets["ncen-3.3.0.tar.gz"].unrecognized_fields["x"] = {"y": "HIDDEN"}
        elif hidden == "second digest":
            ncen.targets["ncen-3.3.0.tar.gz"].hashes["sha512"] = "HIDDEN"
        else:
            ncen.targets["releases/ncen/3.3.0.json"].custom["tufup"] = "HIDDEN"

    event = event_with(feed, tmp_path / "event", change, "root", "ncen")
    assert "HIDDEN" in "\n".join(line.text.render() for line in describe_event(event))


def test_end_of_a_withdrawal_is_shown(feed: Path, tmp_path: Path, keys: FeedKeys) -> None:
    withdraw(feed, "ncen", "3.3.0", Withdrawal(reason="loses cases"), keys, clock)

    def change(drafts: Roles) -> None:
        drafts["ncen"].signed.targets["releases/ncen/3.3.0.json"].custom["ncen"]["withdrawn"] = None

    event = event_with(feed, tmp_path / "event", change, "ncen")
    words = "\n".join(line.text.render() for line in describe_event(event))
    assert "WARNING: ncen 3.3.0: withdrawal ends" in words


def test_renewal_states_that_nothing_else_changes(feed: Path, tmp_path: Path) -> None:
    event = event_with(feed, tmp_path / "event", lambda _: None, "root", "targets", "ncen")
    said = [line.text.render() for line in describe_event(event)]
    assert said.count("no other changes") == 3


def test_foreign_base_is_refused(feed: Path, tmp_path: Path, keys: FeedKeys) -> None:
    """The drafter shows the difference to a feed of their own, where their keys are in already."""
    own = tuple(fresh_signer(tmp_path / "own", name) for name in ("mallory", "eve"))
    fake = FeedKeys((*own, keys.signers[0]), keys.online, 2)
    create_feed(tmp_path / "fake", fake, clock)
    event = event_with(tmp_path / "fake", tmp_path / "event", lambda _: None, "root")
    assert "no other changes" in [line.text.render() for line in describe_event(event)]
    trusted = FeedDirectory(feed).read_roots()[0]
    with refused(EVENT_BASE_UNTRUSTED):
        event.verify_root(trusted)
    with refused(OWN_ROOT_REQUIRED):
        event.verify_root(None)
    good = drafted_renewal(feed, tmp_path / "good")
    good.verify_root(trusted)
    late = copy.deepcopy(trusted)
    late.signed.version = 7
    with refused(EVENT_BASE_UNTRUSTED):
        good.verify_root(late)


def drafted_renewal(feed: Path, place: Path) -> SigningEvent:
    return event_with(feed, place, lambda _: None, "root", "ncen")


def _rewrite(event: Path, folder: str, role: str, change: Callable[[Metadata[Any]], None]) -> None:
    """Change a file and the digest that event.json gives for it."""
    path = event / folder / f"{role}.json"
    metadata: Metadata[Any] = Metadata.from_bytes(path.read_bytes())
    change(metadata)
    path.write_bytes(metadata.to_bytes())
    record = json.loads((event / "event.json").read_bytes())
    key = "drafts" if folder == "draft" else "base"
    record[key][role]["digest"] = compute_signed_digest(metadata)
    (event / "event.json").write_text(json.dumps(record))


def test_altered_base_is_refused(feed: Path, tmp_path: Path) -> None:
    drafted_renewal(feed, tmp_path / "event")

    def other_digest(metadata: Metadata[Any]) -> None:
        metadata.signed.targets["ncen-3.3.0.tar.gz"].hashes["sha256"] = "0" * 64

    _rewrite(tmp_path / "event", "base", "ncen", other_digest)
    with refused(EVENT_BASE_UNTRUSTED):
        SigningEvent.load(tmp_path / "event")


def test_title_is_part_of_the_digest(feed: Path, tmp_path: Path) -> None:
    event = drafted_renewal(feed, tmp_path / "event")
    record = json.loads((event.directory / "event.json").read_bytes())
    record["title"] = "Another thing"
    (event.directory / "event.json").write_text(json.dumps(record))
    assert SigningEvent.load(event.directory).digest != event.digest


@pytest.mark.parametrize(
    "kind", ["link", "pipe", "device", "huge", "folder link", "gap", "swapped"]
)
def test_hostile_media_are_refused(feed: Path, tmp_path: Path, kind: str) -> None:
    place = tmp_path / "event"
    drafted_renewal(feed, place)
    draft = place / "draft" / "ncen.json"
    if kind == "link":
        draft.rename(tmp_path / "elsewhere.json")
        draft.symlink_to(tmp_path / "elsewhere.json")
    elif kind == "pipe":
        draft.unlink()
        os.mkfifo(draft)
    elif kind == "device":
        draft.unlink()
        draft.symlink_to("/dev/zero")
    elif kind == "huge":
        os.truncate(draft, 1 << 40)
    elif kind == "folder link":
        (place / "sig").rmdir()
        (place / "sig").symlink_to(tmp_path)
    elif kind == "gap":
        (place / "roots" / "1.root.json").rename(place / "roots" / "2.root.json")
    else:
        (place / "draft" / "root.json").write_bytes(draft.read_bytes())
    with refused(BAD_EVENT) as caught:
        SigningEvent.load(place)
    assert kind != "huge" or "is over" in str(caught.value.detail)


FILES = ("event.json", "draft/root.json", "draft/ncen.json", "base/root.json", "base/ncen.json",
         "base/targets.json", "roots/1.root.json", "sig/x.json")  # fmt: skip

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 1 << 70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


def _places(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [place] if place else []
    items: Mapping[Any, Any] = (
        value
        if isinstance(value, dict)
        else dict(enumerate(value))
        if isinstance(value, list)
        else {}
    )
    for key, inner in items.items():
        found += _places(inner, (*place, key))
    return found


@pytest.fixture(scope="module")
def pristine(
    made: tuple[Path, FeedKeys], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """The files of one good event, with a signature."""
    event = drafted_renewal(made[0] / "feed", tmp_path_factory.mktemp("fuzz") / "event")
    signature = event.sign_drafts(made[1].signers[0], event.digest)[0]
    signature.rename(signature.with_name("x.json"))
    return contents(event.directory)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_altered_event_files_cause_only_typed_errors(
    pristine: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Any field of any file replaced: an error of ours, or an event that can be shown whole."""
    name = data.draw(st.sampled_from(FILES))
    content = pristine[name]
    if data.draw(st.booleans()):
        document = json.loads(content)
        place = data.draw(st.sampled_from(_places(document)))
        inner = document
        for step in place[:-1]:
            inner = inner[step]
        inner[place[-1]] = data.draw(JSON)
        changed = json.dumps(document).encode()
    else:
        at = data.draw(st.integers(0, len(content) - 1))
        changed = content[:at] + data.draw(st.binary(max_size=6)) + content[at + 1 :]
    directory = tmp_path_factory.mktemp("event")
    for path, kept in pristine.items():
        (directory / path).parent.mkdir(exist_ok=True)
        (directory / path).write_bytes(kept)
    (directory / name).write_bytes(changed)
    if data.draw(st.booleans()) and name.startswith(("draft/", "base/")):
        _correct_digest(directory, name, changed)
    try:
        event = SigningEvent.load(directory)
        read_signature_status(event)
    except UpdaterError:
        return
    for line in describe_event(event):
        line.text.render("fr")


def _correct_digest(directory: Path, name: str, changed: bytes) -> None:
    """Let event.json agree with the changed file, as a drafter would."""
    try:
        digest = compute_signed_digest(Metadata.from_bytes(changed))
    except Exception:  # noqa: BLE001 - no metadata any more, so no digest to correct
        return
    folder, role = name.removesuffix(".json").split("/")
    record = json.loads((directory / "event.json").read_bytes())
    record["drafts" if folder == "draft" else "base"][role]["digest"] = digest
    (directory / "event.json").write_text(json.dumps(record))


def test_valid_release_is_accepted(feed: Path, staged: Path, tmp_path: Path) -> None:
    assert drafted(feed, staged, tmp_path / "event").drafts.keys() == {"ncen"}
