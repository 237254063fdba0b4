"""Readers of untrusted bytes: a line each, with good inputs to begin with."""

from __future__ import annotations

import contextlib
import gzip
import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from ncen_updater.agent.adapters.databases.migrations.planner import load_migrations
from ncen_updater.agent.adapters.databases.sqlite.database_sets import (
    FenceRecord,
    FileSnapshot,
    RecordStore,
    SetRecord,
    SetSnapshot,
)
from ncen_updater.agent.cli.worker import parse_command
from ncen_updater.agent.config.essential_settings import load_essential_settings
from ncen_updater.agent.config.loader import load_config
from ncen_updater.agent.model.change_facts import ChangeFacts
from ncen_updater.agent.service.api.forms import (
    ApprovalForm,
    HoldForm,
    JobForm,
    ScheduleForm,
    parse_query,
    read_form,
)
from ncen_updater.agent.storage.agent_selection import (
    AgentSelection,
    AgentSelectionFile,
    FailedAgent,
)
from ncen_updater.common.bounded_io import parse_json
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.progress import ProgressUpdate, SilentProgress
from ncen_updater.common.workers import decode_error
from ncen_updater.feed.feed_summary import get_view_path
from ncen_updater.feed.import_store import read_import_record
from ncen_updater.feed.offers import load_view
from ncen_updater.feed.release_files import read_document_record
from ncen_updater.feed.trust_state import TrustState, TrustStateStore, VerifiedRole, VerifiedSet
from ncen_updater.formats.archive import unpack_archive
from ncen_updater.formats.bundle_file import open_bundle, read_members, verify_checksums
from ncen_updater.formats.data_loss import find_data_loss
from ncen_updater.formats.delta.apply import apply_pack
from ncen_updater.formats.delta.pack_plan import LinkMode
from ncen_updater.formats.manifest import Manifest, load_manifest
from ncen_updater.formats.release_document import parse_release_document
from ncen_updater.formats.sql import (
    check_migration_sql,
    check_query_sql,
    check_verify_sql,
    split_statements,
)
from ncen_updater.formats.tree import parse_tree
from ncen_updater.publisher.build.advisories import (
    AdvisoryLookupError,
    LockedPackage,
    match_advisory,
)
from ncen_updater.publisher.review.statement_marks import find_marks
from ncen_updater.publisher.signing.event_files import read_metadata
from tests.agent.cli.site import CONFIG
from tests.badinput import test_journal, test_release, test_signed, test_stored_records
from tests.badinput.test_archive import TREE, _tar
from tests.formats.delta.test_fuzz import _honest
from tests.fuzz.engine import Reader
from tests.support.tuf_repository import Feed

MANIFESTS = Path(__file__).resolve().parents[2] / "manifests"
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
SQL = (
    b"CREATE TABLE a (b int DEFAULT 1, c text);\nUPDATE a SET b = 2 WHERE c = 'x''y';\n",
    b"ALTER TABLE a DROP COLUMN b; -- why\nINSERT INTO ncen_kept.a SELECT * FROM a;",
    b"CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $x$ SELECT 1; $x$; /* a /* b */ */"
    b" SELECT E'\\''",
    b'CREATE TRIGGER t AFTER INSERT ON a BEGIN DELETE FROM b; END; DROP TABLE "a;b"',
)
TOLD = b'{"template": "copying {name}", "values": {"name": "x"}, "done": 1, "total": 2}'
OSV = json.dumps({
    "id": "X-1", "aliases": ["CVE-1"], "affected": [{
        "package": {"name": "requests", "ecosystem": "PyPI"}, "versions": ["2.19.1"],
        "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.20"}]}],
    }],
}).encode()  # fmt: skip


def _json(data: object) -> bytes:
    return json.dumps(data).encode()


def _in_file(name: str, read: Callable[[Path], object]) -> Callable[[Path, bytes], object]:
    """Of a reader of a file: write it first."""

    def act(place: Path, content: bytes) -> object:
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return read(path)

    return act


def _parsed(read: Callable[[object], object]) -> Callable[[Path, bytes], object]:
    """Of a reader of values: parse the text first, as who calls it does."""
    return lambda _place, content: read(parse_json(content))


def _text(read: Callable[[str], object]) -> Callable[[Path, bytes], object]:
    return lambda _place, content: read(content.decode("utf-8", "replace"))


def _sql(text: str) -> None:
    for engine in ("postgresql", "sqlite"):
        split_statements(text, engine)
        check_migration_sql(text, engine, transactional=True)
        check_verify_sql(text, engine)
        check_query_sql(text, engine)
        half = len(text) // 2
        find_data_loss(text[:half], text[half:], engine)
        find_marks(text[half:], [engine], "down", up=text[:half])


def _bundle(path: Path) -> None:
    with open_bundle(path) as bundle:
        verify_checksums(bundle, read_members(bundle).values())


def _archive(path: Path) -> None:
    try:
        unpack_archive(path, TREE, path.parent / "out", SilentProgress())
    finally:
        shutil.rmtree(path.parent / "out", ignore_errors=True)


def _forms(content: bytes) -> None:
    for kind in (HoldForm, ApprovalForm, ScheduleForm, JobForm):
        with contextlib.suppress(UpdaterError):
            read_form(kind, content, "application/json")
    parse_query(content.decode("latin-1"), frozenset({"after", "limit"}))


def _worker(data: object) -> None:
    decode_error(data, (UpdaterError, range(2000, 7000)))
    told = ProgressUpdate.from_json(data)
    if told is not None:
        told.text.render()


def _pack(place: Path) -> tuple[bytes, Callable[[Path, bytes], object]]:
    honest = _honest(place, 1)

    def act(here: Path, content: bytes) -> None:
        (here / "pack").write_bytes(content)
        out = here / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        with_old = (here / "pack", honest.old, honest.tree, out, honest.limits, SilentProgress())
        apply_pack(*with_old, LinkMode.COPY)

    return honest.content, act


def _lists(place: Path) -> tuple[Reader, ...]:
    """Each role of a feed in turn, as its server serves it."""
    feed = Feed(place / "feed")
    feed.add_release("3.3.0", manifest={"upgrade_from": ">=3.2"})
    feed.publish()
    root = feed.trusted_root(place / "root.json")
    made = test_signed.Place(feed, place / "state", root, None)  # type: ignore[arg-type]
    made.source(made.state).refresh()

    def of(role: str) -> Reader:
        path = test_signed.file_of(feed, role)
        good = path.read_bytes()

        def act(here: Path, content: bytes) -> None:
            shutil.rmtree(here / "state", ignore_errors=True)
            path.write_bytes(content)
            try:
                made.source(here / "state").refresh()
            finally:
                path.write_bytes(good)

        return Reader(f"list-{role}", (good,), act)

    return tuple(of(role) for role in ("timestamp", "snapshot", "targets", "ncen"))


def _journal(place: Path) -> tuple[bytes, Callable[[Path, bytes], object]]:
    test_journal.make(place / "journal.sqlite")
    good = (place / "journal.sqlite").read_bytes()

    def read(path: Path) -> None:
        for left in path.parent.glob("journal.sqlite-*"):
            left.unlink()
        test_journal.read_all(path, read_only=True)

    return good, _in_file("journal.sqlite", read)


def readers(place: Path) -> list[Reader]:
    """Return every reader.

    Args:
        place: A directory, for what good inputs are made of.
    """
    for name in ("pack", "feed", "journal"):
        (place / name).mkdir(parents=True, exist_ok=True)
    config = CONFIG.format(root=place).encode()
    manifests = [path.read_bytes() for path in sorted(MANIFESTS.glob("*/manifest.toml"))]
    tree = _json(test_release.TREE)
    document = _json(test_release.DOCUMENT)
    pack, apply = _pack(place / "pack")
    journal, open_journal = _journal(place / "journal")
    proved = TrustState(
        "{}", 1, {"ncen": VerifiedRole(3, ("a",), NOW)}, {"ncen": VerifiedSet(3, NOW)}, NOW, 4
    )
    TrustStateStore(place).update(lambda _: proved)
    chosen = AgentSelection("2.0", "1.0", failed={"0.9": FailedAgent(2, NOW)})
    set_record = _json(SetRecord().to_json())
    files = SetSnapshot("sets/base", {"a": FileSnapshot(1, 2, 3, 4, "00")})
    note = _json(FenceRecord(files, {}, files, {"a": {"t": 3}}).to_json())
    signed = {
        "_type": "targets", "version": 1, "spec_version": "1.0.31",
        "expires": "2030-01-01T00:00:00Z", "targets": {}, "x-ncen-role": "targets",
    }  # fmt: skip
    metadata = _json({"signatures": [], "signed": signed})
    values = (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
    )  # of values: who calls it expects them
    lists = _lists(place / "feed")
    seen = get_view_path(place / "feed" / "state", "ncen").read_bytes()
    return [
        Reader("config", (config,), _in_file("agent.toml", load_config)),
        Reader("places", (config,), _in_file("agent.toml", load_essential_settings)),
        Reader("manifest", tuple(manifests), _in_file("manifest.toml", load_manifest)),
        Reader("tree", (tree,), lambda _p, c: parse_tree(c, "x")),
        Reader("document", (document,), lambda _p, c: parse_release_document(c, "x", lenient=True)),
        Reader("archive", (gzip.compress(_tar()), _tar()), _in_file("a.tar.gz", _archive)),
        Reader("pack", (pack,), apply),
        Reader("bundle", (test_stored_records.BUNDLE,), _in_file("b.ncen", _bundle)),
        *lists,
        Reader("view", (seen,), _in_file("feed/ncen.json", load_view)),
        Reader("proved", ((place / "trust-state.json").read_bytes(),),
               _in_file("trust-state.json", lambda path: TrustStateStore(path.parent).load())),
        Reader("record", (_json(test_stored_records.RECORD),),
               _in_file("verified.json", lambda path: read_document_record(path.parent))),
        Reader("import", (_json(test_stored_records.IMPORT),),
               _in_file("feed/import.json", lambda path: read_import_record(path.parents[1]))),
        Reader("partial", (_json(test_stored_records.NOTE),), _partial),
        Reader("sequence", (_json(chosen.to_json()),),
               _in_file("sequence.json", lambda path: AgentSelectionFile(path.parent).load())),
        Reader("api", (b'{"reason": "why", "days": 3}', b'{"kind": "rollback", "version": "3.3.0"}',
                       b"after=3&limit=4"), lambda _p, c: _forms(c)),
        Reader("order", (b'{"command": ["upgrade", "3.3.0", "--yes"]}',), _parsed(
            lambda data: parse_command(data) if isinstance(data, dict) else None), (ValueError,)),
        Reader("worker", (TOLD, b'{"code": "NU-3101", "values": {"path": "x"}, "title": "w"}'),
               _parsed(_worker), (ValueError,)),
        Reader("journal", (journal,), open_journal),
        Reader("facts", (_json(ChangeFacts(copy_plan={"a": {"oid": 1}}).to_json()),),
               _parsed(ChangeFacts.from_json), values),
        Reader("set", (set_record,), _in_file("base.json", lambda path: RecordStore(
            path.parent, SetRecord).read("base"))),
        Reader("note", (note, _json(files.to_json())), _parsed(FenceRecord.from_json), values),
        Reader("sql", SQL, _text(_sql)),
        Reader("migrations", SQL, _migrations),
        Reader("event", (metadata,), _in_file(
            "t.json", lambda path: read_metadata(path, "targets"))),
        Reader("advisory", (OSV,), _parsed(lambda data: match_advisory(
            data if isinstance(data, dict) else {}, LockedPackage("requests", "2.19.1"))),
            (ValueError, AdvisoryLookupError)),
    ]  # fmt: skip


def _partial(place: Path, content: bytes) -> None:
    (place / ".x.partial.json").write_bytes(content)
    (place / ".x.partial").write_bytes(content[:9])
    test_stored_records._fetch(place)


def _migrations(place: Path, content: bytes) -> None:
    manifest = Manifest.model_validate(test_release.MANIFEST)
    for name in ("up.sql", "down.sql"):
        (place / name).write_bytes(content)
    load_migrations(manifest, place, "sqlite", None)
