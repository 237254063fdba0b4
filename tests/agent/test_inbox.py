"""Tests of the import directory: accepted files, owners, names, links, pipes; placing a file."""

from __future__ import annotations

import errno
import os
import signal
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ncen_updater.agent.storage import inbox as trays
from ncen_updater.agent.storage.inbox import (
    Inbox,
    find_inbox_fault,
    find_refusal,
    is_plain_name,
    place_files,
)
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.progress import Amount, Unit
from ncen_updater.formats.bundle_file import open_bundle

ME = os.geteuid()
SOMEBODY = 12_345


def info(mode: int, uid: int = 0, links: int = 1) -> os.stat_result:
    return os.stat_result((mode, 1, 1, links, uid, 0, 7, 0, 0, 0))


@pytest.fixture
def inbox(tmp_path: Path) -> Inbox:
    (tmp_path / "inbox").mkdir(mode=0o770)
    (tmp_path / "inbox").chmod(0o1770)
    return Inbox(tmp_path)


def lay(inbox: Inbox, name: str, content: bytes = b"bundle") -> Path:
    path = inbox.path / name
    path.write_bytes(content)
    return path


class RecordingProgress:
    """Records reported progress."""

    def __init__(self) -> None:
        self.said: list[tuple[str, Amount | None]] = []

    def report(self, text: LazyText, amount: Amount | None = None) -> None:
        self.said.append((text.render("en"), amount))


# ---- the rules -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("ke.ncen", True), ("ke (2).part-1-of-3.ncen", True), ("Côte d'Ivoire.ncen", True),
        ("--config", True), ("a" * 200, True), ("a" * 201, False), ("é" * 101, False),
        ("", False), (".", False), ("..", False), (".ke.ncen", False), ("../shadow", False),
        ("a/b", False), ("/etc/shadow", False), ("a\0b", False), ("a\nb", False),
        ("\x1b[2J.ncen", False), ("ke\u202egnp.ncen", False), ("ke\udcff.ncen", False),
    ],
)  # fmt: skip
def test_plain_names_are_accepted(name: str, plain: bool) -> None:
    assert is_plain_name(name) is plain


@pytest.mark.parametrize(
    ("mode", "uid", "fault"),
    [
        (0o1770, 0, None), (0o1770, ME, None), (0o700, 0, None), (0o755, 0, None),
        (0o1770, SOMEBODY, "it does not belong to the system administrator (root)"),
        (0o1777, 0, "it is world-writable"),
        (0o770, 0, "it is group-writable without a sticky bit"),
    ],
)  # fmt: skip
def test_suitable_import_directory_is_accepted(mode: int, uid: int, fault: str | None) -> None:
    found = find_inbox_fault(info(stat.S_IFDIR | mode, uid), ME)
    assert (found.render("en") if found else None) == fault


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        (info(stat.S_IFREG | 0o600, SOMEBODY), None),
        (info(stat.S_IFREG | 0o644, 0), "it belongs to root, who must start the import"),
        (
            info(stat.S_IFREG | 0o644, SOMEBODY + 1),
            "it belongs to uid 12346, who must start the import",
        ),
        (info(stat.S_IFREG | 0o644, SOMEBODY, 2), "it has several hard links"),
        (info(stat.S_IFLNK | 0o777, SOMEBODY), "not a regular file"),
        (info(stat.S_IFIFO | 0o644, SOMEBODY), "not a regular file"),
        (info(stat.S_IFSOCK | 0o644, SOMEBODY), "not a regular file"),
        (info(stat.S_IFCHR | 0o644, 0), "not a regular file"),
        (info(stat.S_IFDIR | 0o755, SOMEBODY), "not a regular file"),
    ],
)
def test_accepted_file_owners_are_decided(given: os.stat_result, refused: str | None) -> None:
    found = find_refusal(given, SOMEBODY)
    assert (found.render("en") if found else None) == refused


# ---- opening -------------------------------------------------------------------------------------


def linked(inbox: Inbox, outside: Path) -> None:
    (inbox.path / "x.ncen").symlink_to(outside)


def linked_twice(inbox: Inbox, outside: Path) -> None:
    os.link(outside, inbox.path / "x.ncen")


def pipe(inbox: Inbox, outside: Path) -> None:
    del outside
    os.mkfifo(inbox.path / "x.ncen")


def directory(inbox: Inbox, outside: Path) -> None:
    del outside
    (inbox.path / "x.ncen").mkdir()


def nothing(inbox: Inbox, outside: Path) -> None:
    del inbox, outside


@pytest.mark.parametrize("plant", [linked, linked_twice, pipe, directory, nothing])
def test_planted_file_is_not_opened(
    inbox: Inbox, tmp_path: Path, plant: Callable[[Inbox, Path], None]
) -> None:
    outside = tmp_path / "secret"
    outside.write_bytes(b"secret")
    plant(inbox, outside)
    with pytest.raises(UpdaterError, match="NU-9334"):
        inbox.open_file("x.ncen", ME)


@pytest.mark.skipif(ME != 0, reason="only root gives files away")
def test_file_of_another_user_is_not_opened(inbox: Inbox) -> None:
    os.chown(lay(inbox, "ke.ncen"), SOMEBODY, SOMEBODY)
    with pytest.raises(UpdaterError, match="NU-9334"):
        inbox.open_file("ke.ncen", SOMEBODY + 1)
    os.close(inbox.open_file("ke.ncen", SOMEBODY))


def test_file_replaced_during_the_check_is_refused(
    inbox: Inbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is opened is judged, not what was looked at."""
    path, secret = lay(inbox, "ke.ncen"), tmp_path / "secret"
    secret.write_bytes(b"secret")
    real = os.stat

    def exchanged(name: Any, **how: Any) -> os.stat_result:
        found = real(name, **how)
        if name == "ke.ncen" and not path.is_symlink():
            path.unlink()
            os.link(secret, path)
        return found

    monkeypatch.setattr(os, "stat", exchanged)
    with pytest.raises(UpdaterError, match="NU-9334"):
        inbox.open_file("ke.ncen", ME)
    path.unlink()
    path.symlink_to(secret)
    monkeypatch.setattr(os, "stat", lambda *_, **__: info(stat.S_IFREG, ME))
    with pytest.raises(UpdaterError, match="NU-2313"):
        inbox.open_file("ke.ncen", ME)


@pytest.mark.parametrize("mode", [0o1777, 0o770])
def test_import_directory_writable_by_others_is_refused(inbox: Inbox, mode: int) -> None:
    lay(inbox, "ke.ncen")
    inbox.path.chmod(mode)
    for use in (
        inbox.require_usable,
        lambda: inbox.open_file("ke.ncen", ME),
        lambda: inbox.list_files(ME),
    ):
        with pytest.raises(UpdaterError, match="NU-9333"):
            use()


def test_missing_or_linked_import_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UpdaterError, match="NU-9333"):
        Inbox(tmp_path).list_files(ME)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "inbox").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UpdaterError, match="NU-9333"):
        Inbox(tmp_path).list_files(ME)


def test_opened_file_is_read_whatever_happens_to_its_name(inbox: Inbox) -> None:
    path = lay(inbox, "ke.ncen", b"x" * 9000)
    with open_bundle(path, inbox.open_file("ke.ncen", ME)) as bundle:
        path.unlink()
        path.write_bytes(b"y" * 9000)
        assert bundle.read_at(8990, 10) == b"x" * 10


def test_file_that_changes_its_size_is_refused(inbox: Inbox) -> None:
    path = lay(inbox, "ke.ncen", b"x" * 9000)
    with open_bundle(path, inbox.open_file("ke.ncen", ME)) as bundle:
        with path.open("ab") as more:
            more.write(b"y" * 100)
        assert bundle.size == 9000
        os.truncate(path, 5000)
        with pytest.raises(UpdaterError, match="NU-2303"):
            bundle.read_at(4995, 10)


# ---- looking -------------------------------------------------------------------------------------


def test_files_are_listed(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    lay(inbox, "ke.ncen", b"123")
    (inbox.path / "link").symlink_to("/etc/hostname")
    lay(inbox, ".hidden")
    lay(inbox, "\x1b[2J.ncen")
    Path(os.fsdecode(os.fsencode(inbox.path) + b"/ke\xff.ncen")).write_bytes(b"")
    files, more = inbox.list_files(ME)
    assert more == 2
    seen = {file.name: (file.size_bytes, file.refused_because is None) for file in files}
    assert seen.pop("link")[1] is False
    assert seen == {"ke.ncen": (3, True)}
    monkeypatch.setattr(trays, "MAX_LISTED", 1)
    files, more = inbox.list_files(ME)
    assert (len(files), more) == (1, 3)


def test_files_beyond_the_limit_are_counted(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen: "Not shown: 1", whatever the number."""
    for number in range(5):
        lay(inbox, f"{number}.ncen")
    lay(inbox, ".hidden")
    monkeypatch.setattr(trays, "MAX_SCANNED", 2)
    files, unlisted = inbox.list_files(ME)
    assert len(files) + unlisted == 5


# ---- laying down ---------------------------------------------------------------------------------


@pytest.fixture
def medium(tmp_path: Path) -> Path:
    (tmp_path / "usb").mkdir()
    file = tmp_path / "usb/ke.ncen"
    file.write_bytes(b"12345")
    return file


def lies(inbox: Inbox) -> list[str]:
    return sorted(path.name for path in inbox.path.iterdir())


def test_file_is_placed_and_removed(inbox: Inbox, medium: Path) -> None:
    told = RecordingProgress()
    with place_files(inbox.path, medium, told) as remove:
        assert lies(inbox) == remove == ["ke.ncen"]
        descriptor = inbox.open_file("ke.ncen", ME)
        assert os.read(descriptor, 100) == b"12345"
        os.close(descriptor)
    assert lies(inbox) == []
    assert told.said[-1] == ("Copying ke.ncen to the import directory", Amount(5, 5, Unit.BYTES))


def test_file_needed_by_a_job_is_retained(inbox: Inbox, medium: Path) -> None:
    with place_files(inbox.path, medium, RecordingProgress()) as remove:
        remove.clear()
    assert lies(inbox) == ["ke.ncen"]


def test_own_leftovers_are_replaced(inbox: Inbox, medium: Path) -> None:
    lay(inbox, medium.name, b"a part of it")
    with place_files(inbox.path, medium, RecordingProgress()):
        assert (inbox.path / medium.name).read_bytes() == b"12345"


class KilledAt(RecordingProgress):
    """Ends the process once so many pieces were copied, as a power cut or a SIGKILL does."""

    def __init__(self, pieces: int) -> None:
        super().__init__()
        self._left = pieces

    def report(self, text: LazyText, amount: Amount | None = None) -> None:
        self._left -= 1
        if self._left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)


def in_a_process(do: Callable[[], object]) -> int:
    """Do it in a fork that never returns; the signal that ended it, 0 where none did."""
    child = os.fork()
    if child == 0:
        try:
            do()
        finally:
            os._exit(0)
    status = os.waitpid(child, 0)[1]
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def test_kill_while_copying_leaves_a_visible_partial_file(
    inbox: Inbox, medium: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A partial copy lies there, owned by its author, and nothing under another name."""
    monkeypatch.setattr(trays, "COPY_CHUNK_BYTES", 2)
    copied = []
    for pieces in range(1, 4):

        def killed(pieces: int = pieces) -> None:
            with place_files(inbox.path, medium, KilledAt(pieces)):
                pass

        assert in_a_process(killed) == signal.SIGKILL
        found, more = inbox.list_files(ME)
        assert (sorted(file.name for file in found), more) == (lies(inbox), 0)
        assert all(file.refused_because is None for file in found)
        copied.append([file.size_bytes for file in found])
        assert medium.read_bytes().startswith((inbox.path / medium.name).read_bytes())
        with place_files(inbox.path, medium, RecordingProgress()):
            assert (inbox.path / medium.name).read_bytes() == b"12345"
        assert lies(inbox) == [], "typed once more, it takes away what was left, too"
    assert copied == [[2], [4], [5]]


@pytest.mark.skipif(ME != 0, reason="only root gives files away")
def test_file_of_another_user_is_preserved(inbox: Inbox, medium: Path) -> None:
    os.chown(lay(inbox, medium.name), SOMEBODY, SOMEBODY)
    with (
        pytest.raises(UpdaterError, match="NU-9334"),
        place_files(inbox.path, medium, RecordingProgress()),
    ):
        pass
    assert lies(inbox) == [medium.name]


def full(count: int) -> Callable[..., int]:
    """A disk on which so many more bytes have room."""
    left = [count]
    write = os.write

    def some(target: int, piece: bytes) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        now = min(left[0], len(piece))
        left[0] -= now
        return write(target, bytes(piece[:now]))

    return some


def test_disk_that_fills_during_the_copy_is_reported(
    inbox: Inbox, medium: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "write", full(3))
    refused = pytest.raises(UpdaterError, match="NU-3110")
    with refused as found, place_files(inbox.path, medium, RecordingProgress()):
        pass
    assert lies(inbox) == []
    assert medium.name in str(found.value.values["path"])


@pytest.fixture
def sources(tmp_path: Path) -> Iterator[dict[str, Path]]:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "usb").mkdir()
    (tmp_path / "usb/.hidden").write_bytes(b"")
    yield {
        "pipe": tmp_path / "pipe", "gone": tmp_path / "gone.ncen",
        "hidden": tmp_path / "usb/.hidden",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "code"), [("pipe", "NU-2302"), ("gone", "NU-2313"), ("hidden", "NU-9334")]
)
def test_unsuitable_file_is_not_placed(
    inbox: Inbox, sources: dict[str, Path], name: str, code: str
) -> None:
    refused = pytest.raises(UpdaterError, match=code)
    with refused as caught, place_files(inbox.path, sources[name], RecordingProgress()):
        pass
    assert "Errno" not in (caught.value.detail or ""), "words for people"
    assert lies(inbox) == []


def test_missing_import_directory_is_reported(tmp_path: Path, medium: Path) -> None:
    with (
        pytest.raises(UpdaterError, match="NU-9333"),
        place_files(tmp_path / "no", medium, RecordingProgress()),
    ):
        pass
