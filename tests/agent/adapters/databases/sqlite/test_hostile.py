"""The application's user against the agent: what it puts where it may write, root neither believes
nor follows.

The agent is root and the application another user, both really. What is attacked is root's alone.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sqlite3
import stat
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from ncen_updater.agent.adapters.databases.base import CopyPlan, DatabaseMarker, DatabaseRole
from ncen_updater.agent.adapters.databases.sqlite.copies import checkpoint_and_check
from ncen_updater.agent.adapters.databases.sqlite.database_sets import DatabaseSets
from ncen_updater.agent.adapters.databases.sqlite.engine import SqliteEngine
from ncen_updater.agent.adapters.databases.sqlite.safe_files import (
    MASTER_JOURNAL_MAGIC,
    NotRegularFileError,
    describe_entry_problem,
    mask_modes,
)
from ncen_updater.agent.model.errors import DatabaseError
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.messages import FENCE_SNAPSHOT_UNREADABLE
from ncen_updater.common.progress import Amount, SilentProgress
from tests.agent.adapters.databases.sqlite.site import (
    NAMES,
    build,
    new_release,
    reference,
    revert,
    upgrade,
)
from tests.support.errors import refused
from tests.support.trees import remove_tree

COPY = reference()
APPLICATION = 65534
OTHER = 65533
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")


def run_as(user: int, act: Callable[[], object]) -> int:
    """Run a function as another user; return the error's number, 0 where there was none."""
    child = os.fork()
    if child == 0:
        status = 255
        try:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
            act()
            status = 0
        except OSError as error:
            status = error.errno or 255
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@dataclass
class Ground:
    """A site whose sets belong to the application's user; what lies beside it is root's."""

    top: Path
    engine: SqliteEngine

    @property
    def site(self) -> Path:
        return self.top / "db"

    @property
    def base(self) -> Path:
        return self.site / "sets" / "base"

    @property
    def victim(self) -> Path:
        return self.top / "victim"

    def forge(self, name: str, content: bytes) -> None:
        """Write a file into the live set, as the application."""
        assert run_as(APPLICATION, lambda: (self.base / name).write_bytes(content)) == 0

    def plant(self, path: Path, target: Path | str) -> None:
        """Put a link in the place of whatever is there, as the application."""

        def act() -> None:
            path.unlink(missing_ok=True)
            path.symlink_to(target)

        assert run_as(APPLICATION, act) == 0


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture
def ground() -> Iterator[Ground]:
    top = Path(tempfile.mkdtemp(prefix="nu-hostile-"))
    top.chmod(0o755)
    build(top / "db")
    engine = SqliteEngine(top / "db", NAMES, records_directory=top / "state")
    made = Ground(top, engine)
    made.base.chmod(0o700)
    for path in (*made.base.iterdir(), made.base):
        if path.is_file():
            path.chmod(0o600)
        if os.geteuid() == 0:
            os.chown(path, APPLICATION, APPLICATION)
    with closing(sqlite3.connect(made.victim)) as database:
        database.execute("CREATE TABLE secret (word)")
        database.execute("INSERT INTO secret VALUES ('of root alone')")
        database.commit()
    made.victim.chmod(0o600)
    yield made
    remove_tree(top)


class During(SilentProgress):
    """Does something at the first sign of life about a database."""

    def __init__(self, name: str, act: Callable[[], None]) -> None:
        self.name, self.act, self.done = name, act, False

    def report(self, text: LazyText, amount: Amount | None = None) -> None:
        del amount
        if not self.done and text.values.get("name") == self.name:
            self.done = True
            self.act()


# ---- what is believed ----------------------------------------------------------------------------


def forged_role(ground: Ground) -> bytes:
    name = os.path.relpath(ground.victim, ground.base)
    return json.dumps(
        {"role": "previous", "change": "aaaaaaaa", "modes": {".": 0o750, name: 0o777}}
    ).encode()


@needs_root
def test_forged_records_of_a_set_are_not_trusted(ground: Ground, tmp_path: Path) -> None:
    ground.forge("role.json", forged_role(ground))
    ground.forge("marker.json", b'{"release": "9.9", "generation": 9, "change": "zzzzzzzz"}')
    ground.forge("committed.json", json.dumps({"change": COPY.id}).encode())
    assert ground.engine.read_marker() is None
    assert not ground.engine.read_evidence(COPY).committed
    upgrade(ground.engine, COPY, new_release(tmp_path / "slot"))
    fresh = ground.site / "sets" / f"next_{COPY.id}"

    def lie() -> None:
        (fresh / "committed.json").write_text(json.dumps({"change": COPY.id}))
        (fresh / "marker.json").write_text("{")

    assert run_as(APPLICATION, lie) == 0
    assert ground.engine.read_marker() == DatabaseMarker("2.0", 1, COPY.id)
    revert(ground.engine, COPY)
    assert (ground.site / "live").readlink() == Path("sets/base")
    assert mode(ground.victim) == 0o600, "seen: root's file was 0777 after such a rollback"
    assert mode(ground.base) == 0o700


@pytest.mark.parametrize("said", ["[]", "{", "{}"])
def test_damaged_commit_record_is_refused_with_our_message(ground: Ground, said: str) -> None:
    (ground.base / "committed.json").write_text(said)
    layout = DatabaseSets(ground.site, NAMES, ground.top / "state")
    with pytest.raises(DatabaseError, match=r"committed\.json"):
        layout.read_committed(ground.base)


@pytest.mark.parametrize(
    "said",
    [
        '{"role": {"role": "previous", "change": "aaaaaaaa"}}',
        '{"role": {"role": "previous", "change": "aaaaaaaa", "modes": null}}',
        f'{{"counts": {"[" * 100_000}{"]" * 100_000}}}',
    ],
    ids=["a role without modes", "no modes", "nested"],
)
def test_incomplete_marker_is_refused_with_our_message(ground: Ground, said: str) -> None:
    layout = DatabaseSets(ground.site, NAMES, ground.top / "state")
    layout.write_marker(ground.base, DatabaseMarker("1.0", 1, COPY.id))
    (record,) = (ground.top / "state").rglob("base.json")
    record.write_text(said)
    with refused(FENCE_SNAPSHOT_UNREADABLE):
        layout.read_marker(ground.base)


def test_commit_is_known_although_the_agent_directory_was_restored_from_a_backup(
    ground: Ground, tmp_path: Path
) -> None:
    """Decision 2: journal and records are restored from a backup taken before the commit."""
    upgrade(ground.engine, COPY, new_release(tmp_path / "slot"))
    shutil.copytree(ground.top / "state", ground.top / "backup")
    ground.engine.record_commit(COPY)
    shutil.rmtree(ground.top / "state")
    (ground.top / "backup").rename(ground.top / "state")
    assert ground.engine.read_evidence(COPY).committed
    with pytest.raises(DatabaseError, match="NU-4015"):
        ground.engine.revert_cut_over(COPY)


# ---- what is followed ----------------------------------------------------------------------------


@needs_root
def test_symlink_in_the_set_is_not_followed(ground: Ground, tmp_path: Path) -> None:
    """Seen: an ordinary upgrade made a file of root's readable to all."""
    ground.plant(ground.base / "notes.txt", ground.victim)
    ground.plant(ground.base / "role.json", ground.victim)
    upgrade(ground.engine, COPY, new_release(tmp_path / "slot"))
    assert mode(ground.victim) == 0o600
    revert(ground.engine, COPY)
    assert mode(ground.victim) == 0o600
    upgrade(ground.engine, COPY, new_release(tmp_path / "slot"))
    ground.engine.drop_previous(COPY.id)
    assert ground.victim.exists()
    assert not ground.base.exists()


Planting = Callable[[Ground, Path], None]


def symlinked(ground: Ground, path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(ground.victim)


def dangling(ground: Ground, path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(ground.top / "new")


def hard_linked(ground: Ground, path: Path) -> None:
    path.unlink(missing_ok=True)
    path.hardlink_to(ground.victim)


def pipe(ground: Ground, path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def directory(ground: Ground, path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


@pytest.mark.parametrize("name", ["people.sqlite", "people.sqlite-wal", "people.sqlite-journal"])
@pytest.mark.parametrize("what", [symlinked, dangling, hard_linked, pipe, directory])
@pytest.mark.usefixtures("sees_others")
def test_special_file_is_refused_before_the_downtime(
    ground: Ground, what: Planting, name: str
) -> None:
    what(ground, ground.base / name)
    before = ground.victim.lstat()
    for final in (False, True):
        found = {
            finding.code for finding in ground.engine.find_blockers(COPY, application_stopped=final)
        }
        assert "NU-4252" in found
    with pytest.raises(NotRegularFileError, match=name):
        ground.engine.fence(COPY)
    assert (ground.site / "live").is_symlink(), "nothing was taken away"
    with pytest.raises(NotRegularFileError, match=name):
        ground.engine.copy_databases(COPY, CopyPlan({}), SilentProgress())
    after = ground.victim.lstat()
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
    assert not (ground.top / "new").exists()


@needs_root
def test_symlink_created_during_the_copy_is_not_followed(ground: Ground) -> None:
    """The name is exchanged after it was looked at: the copy would be the application's to read."""
    ground.engine.fence(COPY)
    people = ground.base / "people.sqlite"
    swap = During("cases", lambda: ground.plant(people, ground.victim))
    with pytest.raises(NotRegularFileError, match="people"):
        ground.engine.copy_databases(COPY, ground.engine.plan_copy(COPY), swap)
    assert swap.done
    secret = b"of root alone"
    for path in ground.site.rglob("*"):
        assert path.is_symlink() or not path.is_file() or secret not in path.read_bytes(), path
    ground.engine.discard_candidates(COPY, CopyPlan({}))
    assert (mode(ground.victim), ground.victim.lstat().st_uid) == (0o600, 0)


@needs_root
def test_symlink_in_an_open_set_is_not_followed_by_a_rehearsal(ground: Ground) -> None:
    people = ground.base / "people.sqlite"
    swap = During("cases", lambda: ground.plant(people, ground.victim))
    with pytest.raises(NotRegularFileError, match="people"):
        ground.engine.copy_databases(COPY, ground.engine.plan_copy(COPY), swap)
    assert swap.done


@needs_root
def test_symlink_in_the_new_set_is_not_migrated(ground: Ground, tmp_path: Path) -> None:
    ground.engine.fence(COPY)
    ground.engine.copy_databases(COPY, ground.engine.plan_copy(COPY), SilentProgress())
    ground.plant(ground.site / "sets" / f"next_{COPY.id}" / "people.sqlite", ground.victim)
    with pytest.raises(NotRegularFileError, match="people"):
        ground.engine.migrate(COPY, new_release(tmp_path / "slot"), None, SilentProgress())
    with closing(sqlite3.connect(ground.victim)) as database:
        found = database.execute("SELECT name FROM sqlite_master").fetchall()
    assert found == [("secret",)]
    ground.engine.discard_candidates(COPY, CopyPlan({}))
    ground.engine.unfence(COPY)
    assert ground.victim.exists()


@pytest.mark.parametrize("target", ["../victims", "/etc", "sets/..", "sets/base/../base", "other"])
def test_live_link_leads_to_a_set_or_nowhere(ground: Ground, target: str) -> None:
    live = ground.site / "live"
    live.unlink()
    live.symlink_to(target)
    with pytest.raises(NotRegularFileError, match="live"):
        ground.engine.fence(COPY)
    assert live.readlink() == Path(target)


@pytest.mark.parametrize("which", ["sets", "sets/base"])
def test_linked_directory_is_not_a_set(ground: Ground, which: str) -> None:
    place = ground.site / which
    place.rename(ground.top / "elsewhere")
    place.symlink_to(ground.top / "elsewhere")
    with pytest.raises(NotRegularFileError):
        ground.engine.fence(COPY)
    with pytest.raises(NotRegularFileError):
        ground.engine.read_evidence(COPY)


def test_entry_in_place_of_a_copy_is_removed_itself(ground: Ground) -> None:
    treasure = ground.top / "treasure"
    treasure.mkdir()
    (treasure / "kept").write_text("")
    (ground.site / "sets" / f"next_{COPY.id}.partial").symlink_to(treasure)
    ground.engine.fence(COPY)
    ground.engine.copy_databases(COPY, ground.engine.plan_copy(COPY), SilentProgress())
    assert (treasure / "kept").exists()
    assert ground.engine.is_copied(COPY, CopyPlan({}))


def hot_journal(path: Path) -> bytes:
    """The journal that a killed transaction left beside a database."""
    code = (
        "import os, sqlite3, sys; d = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "d.execute('PRAGMA cache_spill = 1'); d.execute('PRAGMA cache_size = 1');"
        "d.execute('BEGIN'); d.execute(\"UPDATE item SET note = hex(randomblob(4000))\");"
        "os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    return path.with_name(path.name + "-journal").read_bytes()


@needs_root
def test_journal_that_names_another_file_removes_nothing(ground: Ground) -> None:
    """SQLite removes what a finished journal calls the head of its family: as root, anything."""
    cases = ground.base / "cases.sqlite"
    content = hot_journal(cases)
    name = os.fsencode(ground.victim)
    check = sum(byte - 256 if byte > 127 else byte for byte in name) & 0xFFFFFFFF
    pages = 0x4000_0000 // 4096 + 1
    tail = (
        struct.pack(">I", pages)
        + name
        + struct.pack(">II", len(name), check)
        + MASTER_JOURNAL_MAGIC
    )
    journal = cases.with_name(cases.name + "-journal")
    journal.write_bytes(content + tail)
    os.chown(journal, APPLICATION, APPLICATION)
    with pytest.raises(NotRegularFileError, match="names another file"):
        checkpoint_and_check(cases)
    assert ground.victim.exists()
    with pytest.raises(NotRegularFileError, match="names another file"):
        ground.engine.fence(COPY)
        ground.engine.copy_databases(COPY, ground.engine.plan_copy(COPY), SilentProgress())
    assert ground.victim.exists()


# ---- who may read --------------------------------------------------------------------------------


@needs_root
def test_incomplete_copy_is_not_readable_by_others(ground: Ground) -> None:
    """Seen: nobody opened all files of two rehearsals and read them later by what it kept open."""
    ground.base.chmod(0o755)  # even so
    partial = ground.site / "sets" / f"next_{COPY.id}.partial"
    tried: list[int] = []

    def look() -> None:
        for path in partial.iterdir():
            tried.append(run_as(OTHER, lambda path=path: path.open("rb").close()))  # type: ignore[misc]
        tried.append(run_as(OTHER, lambda: list(partial.iterdir())))

    for change in (COPY, reference("bcdefgha")):
        if change != COPY:
            ground.engine.fence(change)  # a copy of a closed set, byte by byte
            partial = ground.site / "sets" / f"next_{change.id}.partial"
        ground.engine.copy_databases(
            change, ground.engine.plan_copy(change), During("people", look)
        )
    assert len(tried) >= 4
    assert set(tried) == {errno.EACCES}
    made = partial.with_name(partial.name.removesuffix(".partial"))
    for name in NAMES:
        info = (made / f"{name}.sqlite").lstat()
        assert (stat.S_IMODE(info.st_mode), info.st_uid) == (0o600, APPLICATION)
    assert (mode(made), made.lstat().st_uid) == (0o755, APPLICATION)


@needs_root
def test_previous_databases_keep_their_readers(ground: Ground, tmp_path: Path) -> None:
    """Seen: 0600 in 0700 became 0444 in 0555, for a week."""
    (ground.base / "people.sqlite").chmod(0o640)
    upgrade(ground.engine, COPY, new_release(tmp_path / "slot"))
    assert mode(ground.base) == 0o500
    assert mode(ground.base / "cases.sqlite") == 0o400
    assert mode(ground.base / "people.sqlite") == 0o440
    assert run_as(OTHER, (ground.base / "cases.sqlite").open) == errno.EACCES
    assert ground.engine.run_query(COPY.get_previous("cases"), "SELECT count(*) FROM item") == [
        (50,)
    ]
    revert(ground.engine, COPY)
    assert mode(ground.base) == 0o700
    assert mode(ground.base / "cases.sqlite") == 0o600
    assert mode(ground.base / "people.sqlite") == 0o640


# ---- pure ----------------------------------------------------------------------------------------


def info(kind: int, names: int, uid: int) -> os.stat_result:
    return os.stat_result((kind | 0o640, 1, 1, names, uid, 0, 0, 0, 0, 0))


@pytest.mark.parametrize(
    ("kind", "names", "uid", "holder", "said"),
    [
        (stat.S_IFREG, 1, 7, 7, None),
        (stat.S_IFREG, 1, 7, 0, None),  # a directory of root's that a group may write in
        (stat.S_IFREG, 1, 0, 0, None),
        (stat.S_IFREG, 1, 0, 7, "root"),
        (stat.S_IFREG, 2, 7, 7, "hard links: 2"),
        (stat.S_IFLNK, 1, 7, 7, "mode: l"),
        (stat.S_IFIFO, 1, 7, 7, "mode: p"),
        (stat.S_IFDIR, 1, 7, 7, "mode: d"),
        (stat.S_IFCHR, 1, 7, 7, "mode: c"),
    ],
)
def test_directory_entries_are_validated(
    kind: int, names: int, uid: int, holder: int, said: str | None
) -> None:
    found = describe_entry_problem(info(kind, names, uid), info(stat.S_IFDIR, 2, holder))
    assert (found is None) if said is None else (said in str(found))


def test_file_modes_of_a_set_are_masked() -> None:
    modes = {".": 0o47777, "a.sqlite": 0o4755, "a.sqlite-wal": 0o600, "b.sqlite": 1, "../a": 2}
    expected = {".": 0o3777, "a.sqlite": 0o755, "a.sqlite-wal": 0o600}
    assert mask_modes(modes, ("a",), ".sqlite") == expected
    assert DatabaseRole.PREVIOUS.value == "previous"
