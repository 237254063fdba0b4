"""Tests of ``signer.toml``: stored settings, forbidden ones, and single-file events."""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from ncen_updater.common.messages import (
    BAD_EVENT,
    SIGNER_SETTINGS_EXPOSED,
    SIGNER_SETTINGS_HOLD_SECRET,
    SIGNER_SETTINGS_INVALID,
    ErrorMessage,
)
from ncen_updater.publisher.cli.main import run
from ncen_updater.publisher.new.trial import FeedKeys
from ncen_updater.publisher.signing.draft import draft_initial_roles
from ncen_updater.publisher.signing.event_files import pack_event, unpack_event
from ncen_updater.publisher.signing.signer_settings import find_settings_path, load_signer_settings
from ncen_updater.publisher.signing.signing_event import SigningEvent
from tests.publisher.feeds import ceremony_of, drafted
from tests.publisher.releases import NOW, PASSPHRASE, ring
from tests.support.errors import refused


def written(place: Path, content: bytes | str, mode: int = 0o600) -> Path:
    path = place / "signer.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)
    return path


@dataclass(frozen=True)
class Bad:
    name: str
    content: bytes | str
    code: ErrorMessage = SIGNER_SETTINGS_INVALID
    words: str = "officer"
    mode: int = 0o600


BAD = [
    Bad("no TOML", "key = ", words="Invalid"),
    Bad("not UTF-8", b"\xff\xfe", words="decode"),
    Bad("a name misspelt", 'rooot = "r"', words="rooot: unknown name; known: "),
    Bad("a name that is none of it", 'colour = "r"', words="unknown name; known: name, key"),
    Bad("a number for a path", "key = 3", words="key: Put the value in quotes."),
    Bad("a text for a number", 'token = "t"\nkey_id = "2"', words="key_id"),
    Bad("a number that no token has", 'token = "t"\nkey_id = 300', words="key_id"),
    Bad("key and token", 'key = "k"\ntoken = "t"', words="either key or token"),
    Bad("what belongs to a token", 'key = "k"\nmodule = "m"', words="need token"),
    Bad("an empty path", 'root = ""', words="root"),
    Bad("a path with a line in it", 'root = "a\\nb"', words="root"),
    Bad("a missing home directory", 'key = "~no-such-user/k"', words="~no-such-user/k"),
    Bad("too long", "#" * 30_000, words="over 20000 bytes"),
    Bad("nested too deeply", "a." * 5000 + "b = 1", words="nested too deeply"),
    Bad("a table", '[key]\npath = "k"', words="key"),
    Bad("a passphrase", 'passphrase = "six words"', SIGNER_SETTINGS_HOLD_SECRET, "passphrase"),
    Bad("a PIN", 'PIN = "123456"', SIGNER_SETTINGS_HOLD_SECRET, "PIN"),
    Bad("a file with it", 'passphrase_file = "x"', SIGNER_SETTINGS_HOLD_SECRET, "passphrase_file"),
    Bad("readable by the group", 'name = "amina"', SIGNER_SETTINGS_EXPOSED, "0640", 0o640),
    Bad("writable by all", 'name = "amina"', SIGNER_SETTINGS_EXPOSED, "0602", 0o602),
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_invalid_signer_settings_are_refused(bad: Bad, tmp_path: Path) -> None:
    with refused(bad.code, match=re.escape(bad.words)):
        load_signer_settings(written(tmp_path, bad.content, bad.mode))


@pytest.mark.parametrize("name", ["root", "builder_key", "module"])
def test_trusted_root_writable_by_others_is_refused(name: str, tmp_path: Path) -> None:
    """Seen: the signer's own root lay where all of the office could put another one."""
    other = tmp_path / "believed"
    other.write_text("{}")
    token = 'token = "t"\n' if name == "module" else ""
    path = written(tmp_path, f'{token}{name} = "believed"\n')
    for mode in (0o600, 0o644):
        other.chmod(mode)
        load_signer_settings(path)
    other.chmod(0o646)
    with refused(SIGNER_SETTINGS_EXPOSED, match="believed.*mode 0646"):
        load_signer_settings(path)
    other.unlink()
    load_signer_settings(path)  # the caller reports that it is missing


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize(("uid", "gid", "mode"), [(65534, 0, 0o600), (0, 65534, 0o660)])
def test_settings_writable_by_another_user_or_group_are_refused(
    uid: int, gid: int, mode: int, tmp_path: Path
) -> None:
    other = tmp_path / "believed"
    other.write_text("{}")
    os.chown(other, uid, gid)
    other.chmod(mode)
    with refused(SIGNER_SETTINGS_EXPOSED, match="believed"):
        load_signer_settings(written(tmp_path, 'root = "believed"\n'))


@pytest.mark.parametrize("kind", ["missing", "directory", "pipe"])
def test_special_file_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "signer.toml"
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path, 0o600)
    with refused(SIGNER_SETTINGS_INVALID):
        load_signer_settings(path)


def test_settings_file_is_found(tmp_path: Path) -> None:
    """The command line, the environment, the usual place; none is no mistake."""
    home = {"HOME": str(tmp_path)}
    assert find_settings_path(None, home) is None
    assert find_settings_path(None, {}) is None
    usual = tmp_path / ".config/ncen-publisher/signer.toml"
    usual.parent.mkdir(parents=True)
    usual.touch()
    assert find_settings_path(None, home) == usual
    assert find_settings_path(None, {**home, "NCEN_SIGNER": "/a"}) == Path("/a")
    assert find_settings_path(Path("/b"), {**home, "NCEN_SIGNER": "/a"}) == Path("/b")


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    text = 'name = "amina"\ntoken = "t"\nkey_id = 3\nroot = "1.root.json"\nstaging = "/s"\n'
    found = load_signer_settings(written(tmp_path, text))
    assert (found.name, found.token, found.key_id, found.key) == ("amina", "t", 3, None)
    assert found.root == tmp_path / "1.root.json"
    assert found.staging == Path("/s")


@dataclass
class RememberedDesk:
    """A signer with a file that remembers everything, and an event that came as one file."""

    event: Path
    signer: Path
    secret: Path
    digest: str
    directory: Path


@pytest.fixture
def desk(tmp_path: Path, keys: FeedKeys, feed: Path, staged: Path) -> RememberedDesk:
    made = drafted(feed, staged, tmp_path / "release-3.4.0")
    secret = tmp_path / "secret"
    secret.write_text(PASSPHRASE)
    secret.chmod(0o600)
    (tmp_path / "root.json").write_bytes((feed / "metadata/1.root.json").read_bytes())
    text = f'name = "amina"\nkey = "keys/amina.pem"\nroot = "root.json"\nfeed = "{feed}"\n'
    officer = written(tmp_path, f'{text}staging = "{staged}"\n')
    event = tmp_path / "post" / "release-3.4.0.event"
    event.parent.mkdir()
    event.write_bytes((tmp_path / "release-3.4.0.event").read_bytes())
    return RememberedDesk(event, officer, secret, made.digest, made.directory)


def test_event_is_one_file_in_and_one_file_out(
    desk: RememberedDesk, capsys: pytest.CaptureFixture[str]
) -> None:
    """'sign EVENT' needs nothing else but the digest and the answer; 'merge' takes what came."""
    remembered = ("--signer", str(desk.signer))
    assert run(["show", str(desk.event), *remembered, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["anchored"], shown["digest"]) == (True, desk.digest)
    assert [release["files"] for release in shown["releases"]] != [None]
    sign = ["sign", str(desk.event), *remembered, "--passphrase-file", str(desk.secret)]
    assert run(sign) == 2  # no prompt for the digest is possible
    assert "--digest" in capsys.readouterr().err
    assert run([*sign, "--yes", "--digest", desk.digest, "--json"]) == 0
    answer = desk.event.with_name("release-3.4.0.amina.sig")
    assert json.loads(capsys.readouterr().out)["files"] == [str(answer)]
    assert sorted(path.name for path in desk.event.parent.iterdir()) == [
        "release-3.4.0.amina.sig", "release-3.4.0.event",
    ]  # fmt: skip
    assert run(["merge", str(desk.directory), str(answer), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["signatures"]
    assert row["signed"] == ["amina"]


def test_keys_show_lists_remembered_settings(
    desk: RememberedDesk, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["keys", "show", "--signer", str(desk.signer), "--json"]) == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert [Path(row["file"]).name for row in files] == ["amina.pub.json", "root.json"]
    assert run(["keys", "show"]) == 2


def test_key_of_another_signer_is_refused(
    desk: RememberedDesk, capsys: pytest.CaptureFixture[str]
) -> None:
    sign = ["sign", str(desk.event), "--signer", str(desk.signer), "--digest", desk.digest,
            "--key", str(desk.signer.parent / "keys/bo.pem"), "--yes",
            "--passphrase-file", str(desk.secret)]  # fmt: skip
    assert run(sign) == 2
    assert "NU-7080" in capsys.readouterr().err
    assert not list(desk.event.parent.glob("*.sig"))


def test_remembered_root_is_always_compared(
    desk: RememberedDesk, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A drafter could begin a feed of their own: it does not lead from the signer's root."""
    other = tmp_path / "other"
    held = ring(other)
    ceremony = ceremony_of(held.signers, {n: k[0] for n, k in held.online.items()})
    draft = draft_initial_roles(ceremony, NOW)
    SigningEvent.create(other / "first", draft.title, draft.roles, None)
    event = other / "first.event"
    for command in (["show"], ["sign", "--yes", "--digest", "0" * 32]):
        assert run([command[0], str(event), "--signer", str(desk.signer), *command[1:]]) != 0
    digest = SigningEvent.load(other / "first").digest
    assert run(["sign", str(event), "--signer", str(desk.signer), "--digest", digest,
                "--yes", "--passphrase-file", str(desk.secret)]) == 6  # fmt: skip
    assert "NU-7042" in capsys.readouterr().err


def test_event_file_is_reproducible(desk: RememberedDesk, tmp_path: Path) -> None:
    """The same bytes each time, the same event when it is laid out."""
    packed = tmp_path / "release-3.4.0.event"
    before = packed.read_bytes()
    packed.unlink()
    pack_event(desk.directory)
    assert packed.read_bytes() == before
    (tmp_path / "laid").mkdir()
    unpack_event(desk.event, tmp_path / "laid")
    assert SigningEvent.load(tmp_path / "laid").digest == desk.digest


def odd(change: Callable[[dict[str, bytes]], object]) -> Callable[[bytes], bytes]:
    def made(content: bytes) -> bytes:
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            files = {name: packed.read(name) for name in packed.namelist()}
        change(files)
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as packed:
            for name, text in files.items():
                packed.writestr(name, text)
        return out.getvalue()

    return made


HOSTILE: dict[str, Callable[[bytes], bytes]] = {
    "half": lambda content: content[: len(content) // 2],
    "empty": lambda _: b"",
    "another file": lambda _: b"%PDF-1.4",
    "a way out": odd(lambda files: files.update({"../../evil": b"x"})),
    "an absolute path": odd(lambda files: files.update({"/tmp/evil": b"x"})),
    "a folder that is none of it": odd(lambda files: files.update({"sig/ncen.json": b"{}"})),
    "without its record": odd(lambda files: files.pop("event.json")),
    "a draft that was changed": odd(
        lambda files: files.update({"draft/ncen.json": files["base/ncen.json"]})
    ),
    "a file over the limit": odd(lambda files: files.update({"draft/x.json": b" " * 10_000_001})),
}


@pytest.mark.parametrize("how", HOSTILE)
def test_non_event_file_is_refused(
    how: str, desk: RememberedDesk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is reported as such, nothing is written, nothing is signed."""
    desk.event.write_bytes(HOSTILE[how](desk.event.read_bytes()))
    there = sorted(path for path in tmp_path.rglob("*"))
    assert run(["sign", str(desk.event), "--signer", str(desk.signer), "--yes",
                "--digest", desk.digest, "--passphrase-file", str(desk.secret)]) != 0  # fmt: skip
    said = capsys.readouterr().err
    assert BAD_EVENT.code in said
    assert sorted(path for path in tmp_path.rglob("*")) == there


def test_missing_own_root_is_not_requested_from_the_drafter(
    desk: RememberedDesk, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seen: "Copy it again from the person who drafted it", of what they are compared with."""
    (desk.signer.parent / "root.json").unlink()
    for command in (["show"], ["sign", "--yes", "--digest", desk.digest]):
        words = [*command, str(desk.event), "--signer", str(desk.signer), "--json"]
        assert run(words) == 2
        error = json.loads(capsys.readouterr().out)["error"]
        assert error["code"] == "NU-7083"
        assert "from your own backup" in error["remedy"]
