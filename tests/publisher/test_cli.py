"""Tests of the program from the first key to a withdrawal, as signers type it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from ncen_updater.common.i18n import translate
from ncen_updater.common.messages import (
    BAD_KEY_FILE,
    OWN_ROOT_REQUIRED,
    OWN_ROOT_UNUSABLE,
    ErrorMessage,
)
from ncen_updater.publisher.cli.main import COMMANDS, cli, run
from tests.publisher.releases import PASSPHRASE, write_release
from tests.support.reference import list_undocumented_keys


class SignerCli:
    """Runs commands; returns exit code, output and errors."""

    def __init__(self, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.work, self._capsys = work, capsys
        self.secret = work / "secret"
        self.secret.write_text(PASSPHRASE + "\n")
        self.secret.chmod(0o600)

    def run(self, *arguments: object) -> tuple[int, str, str]:
        code = run([str(argument) for argument in arguments])
        captured = self._capsys.readouterr()
        return code, captured.out, captured.err

    def json(self, *arguments: object) -> Any:
        code, out, err = self.run(*arguments, "--json")
        assert code == 0, err
        document = json.loads(out)
        name = " ".join(map(str, arguments[: 2 if arguments[0] in ("keys", "fleet") else 1]))
        assert list_undocumented_keys(f"ncen-publisher {name}", document) == set()
        return document

    def sign_and_publish(self, event: Path, *more: object) -> None:
        digest = self.json("show", event)["digest"]
        first = self.work / "feed" / "metadata" / "1.root.json"
        root = ("--root", first) if first.exists() else ()
        public = self.work / "keys/builder.pub.json"
        builder = ("--builder-key", public) if public.exists() else ()
        for name in ("amina", "bo"):
            key = self.work / f"keys/{name}.pem"
            told = ("--digest", digest, "--yes", *root, *builder)
            self.json("sign", event, "--key", key, *told, *self.pass_file)
        self.json("publish", self.work / "feed", "--event", event, *more, *self.online)

    @property
    def pass_file(self) -> tuple[object, ...]:
        return ("--passphrase-file", self.secret)

    @property
    def online(self) -> tuple[object, ...]:
        keys = self.work / "keys"
        return (
            "--snapshot-key",
            keys / "snapshot.pem",
            "--timestamp-key",
            keys / "timestamp.pem",
            *self.pass_file,
        )


@pytest.fixture
def signer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> SignerCli:
    person = SignerCli(tmp_path, capsys)
    for name in ("amina", "bo", "chen", "snapshot", "timestamp"):
        person.json("keys", "new", name, "--directory", tmp_path / "keys", *person.pass_file)
    officers = [f"keys/{name}.pub.json" for name in ("amina", "bo", "chen")]
    roles = "".join(
        f"[roles.{role}]\nkeys = {officers}\nthreshold = 2\n"
        for role in ("root", "targets", "ncen", "ncen-updater")
    ) + "".join(
        f'[roles.{role}]\nkeys = ["keys/{role}.pub.json"]\nthreshold = 1\n'
        for role in ("snapshot", "timestamp")
    )
    (tmp_path / "ceremony.toml").write_text(roles)
    return person


def test_feed_lifecycle_from_init_to_withdrawal(signer: SignerCli) -> None:
    work, feed = signer.work, signer.work / "feed"
    signer.json("init", work / "ceremony.toml", "--event", work / "e1")
    signer.sign_and_publish(work / "e1")
    extra = '[[health]]\nname = "answers"\npath = "/"\n'
    release = write_release(work / "r", extra=extra)
    assert signer.json("lint", release, "--feed", feed)["findings"] == []
    assert signer.json("build", release, "--staging", work / "s")["version"] == "3.3.0"
    shown = signer.json("draft", "--feed", feed, "--staging", work / "s", "--event", work / "e2")
    assert {change["role"] for change in shown["changes"]} == {"", "ncen"}
    code, out, err = signer.run("publish", feed, "--event", work / "e2", *signer.online)
    assert (code, out) == (4, "")
    assert all(word in err for word in ("NU-7011", "0 of 2", "amina, bo, chen"))
    signer.sign_and_publish(work / "e2", "--staging", work / "s")
    signer.json("refresh", feed, *signer.online)
    reason = ("--reason", "loses cases", "--advice", "go back.", "--feed", feed)
    code, out, _ = signer.run("withdraw", "3.3.0", *reason, "--event", work / "e3")
    assert code == 0
    assert "WITHDRAWN: ncen 3.3.0: loses cases. Advice: go back." in out
    signer.sign_and_publish(work / "e3")
    status = signer.json("status", feed)
    assert [release["withdrawn"] for release in status["releases"]] == ["loses cases"]
    assert {role["role"]: role["version"] for role in status["roles"]}["ncen"] == 3
    assert {role["due"] for role in status["roles"]} == {False}
    code, out, _ = signer.run("status", feed)
    rows = [line.split() for line in out.splitlines()]
    assert rows[0][:3] == ["role", "version", "signatures"]
    assert rows[1][:5] == ["root", "1", "2", "of", "2"]
    assert rows[1][-3:] == ["amina,", "bo,", "chen"]
    assert rows[-1] == ["ncen", "3.3.0", "stable", "all", "withdrawn:", "loses", "cases"]


def test_signing_status_is_reported(signer: SignerCli) -> None:
    work, feed = signer.work, signer.work / "feed"
    event = work / "e1"
    digest = signer.json("init", work / "ceremony.toml", "--event", event)["digest"]
    lines = []
    for name in ("amina", "bo"):
        _, out, _ = signer.run("show", event)
        lines += [line for line in out.splitlines() if line.startswith("root version 1: ")]
        signer.json("sign", event, "--key", work / "keys" / f"{name}.pem", "--digest", digest,
                     "--yes", *signer.pass_file)  # fmt: skip
    _, out, _ = signer.run("merge", event)
    lines += [line for line in out.splitlines() if line.startswith("root version 1: ")]
    assert lines == [
        "root version 1: signed by nobody yet; missing: 2 of 2; can sign: amina, bo, chen",
        "root version 1: signed by amina; missing: 1 of 2; can sign: bo, chen",
        "root version 1: signed by amina, bo; threshold reached",
    ]
    assert "status FEED --signing-history" in out
    signer.json("publish", feed, "--event", event, *signer.online)
    signer.json("renew", "ncen", "--feed", feed, "--event", work / "e2")
    signer.sign_and_publish(work / "e2")
    found = signer.json("status", feed, "--signing-history")["metadata"]
    assert [(one["role"], one["version"]) for one in found[:2]] == [("ncen", 2), ("targets", 1)]
    assert len(found) == 5
    assert {tuple(one["signed"]) for one in found} == {("amina", "bo")}
    _, out, _ = signer.run("status", feed, "--signing-history")
    assert out.splitlines()[0].split() == ["role", "version", "drafted", "signed", "by"]
    # Who only put a signature there signed nothing.
    path = feed / "metadata/2.ncen.json"
    forged = json.loads(path.read_bytes())
    one, other = (item["sig"] for item in forged["signatures"])
    forged["signatures"][0]["sig"] = other
    path.write_text(json.dumps(forged))
    (newest, *_) = signer.json("status", feed, "--signing-history")["metadata"]
    assert len(newest["signed"]) == 1 and one != other


def test_fingerprints_are_shown_in_groups(signer: SignerCli) -> None:
    """The same fingerprint from a public file, from the root, and from the key itself."""
    work = signer.work
    signer.json("init", work / "ceremony.toml", "--event", work / "e1")
    signer.sign_and_publish(work / "e1")
    public, root = work / "keys/amina.pub.json", work / "feed/metadata/1.root.json"
    shown, trusted = signer.json("keys", "show", public, root)["files"]
    raw = bytes.fromhex(json.loads(public.read_bytes())["key"]["keyval"]["public"])
    # What the standard puts before the bytes of an Ed25519 key (RFC 8410).
    mark = hashlib.sha256(bytes.fromhex("302a300506032b6570032100") + raw).hexdigest()
    assert shown["keys"] == [{"role": "", "owner": "amina", "kind": "ed25519", "fingerprint": mark}]
    assert (trusted["root"], trusted["sha256"]) == (
        1,
        hashlib.sha256(root.read_bytes()).hexdigest(),
    )
    assert {**shown["keys"][0], "role": "root"} in trusted["keys"]
    assert len(trusted["keys"]) == 3 + 3 + 1 + 1
    _, out, _ = signer.run("keys", "show", public, root)
    groups = " ".join(mark[at : at + 8] for at in range(0, 64, 8))
    assert f"  amina: ed25519 key {groups}\n" in out
    assert f"  root, amina: ed25519 key {groups}\n" in out


def test_keys_for_emergency_halts_are_shown(signer: SignerCli) -> None:
    work = signer.work
    with (work / "ceremony.toml").open("a") as ceremony:
        ceremony.write('[emergency_halt_keys]\nkeys = ["keys/bo.pub.json"]\n')
    signer.json("init", work / "ceremony.toml", "--event", work / "e1")
    signer.sign_and_publish(work / "e1")
    _, out, _ = signer.run("keys", "show", work / "feed/metadata/1.root.json")
    assert "  emergency halt, bo: ed25519 key " in out


@pytest.mark.parametrize(
    ("name", "message"), [("x.pub.json", BAD_KEY_FILE), ("1.root.json", OWN_ROOT_UNUSABLE)]
)
def test_invalid_key_file_is_reported(signer: SignerCli, name: str, message: ErrorMessage) -> None:
    (signer.work / name).write_text("{}")
    code, out, err = signer.run("keys", "show", signer.work / name)
    assert (code, out) == (message.exit_code, "")
    assert name in err
    assert message.code in err


def test_published_files_are_readable_by_the_web_server(signer: SignerCli) -> None:
    """Whatever the mask of the signer who publishes."""
    work, feed = signer.work, signer.work / "feed"
    signer.json("build", write_release(work / "r"), "--staging", work / "s")
    before = os.umask(0o077)
    try:
        signer.json("init", work / "ceremony.toml", "--event", work / "e1")
        signer.sign_and_publish(work / "e1")
        signer.json("draft", "--feed", feed, "--staging", work / "s", "--event", work / "e2")
        signer.sign_and_publish(work / "e2", "--staging", work / "s")
        signer.json("upload", feed, work / "place")
    finally:
        os.umask(before)
    for place in (feed, work / "place"):
        found = [place, *place.rglob("*")]
        assert {path.stat().st_mode & 0o777 for path in found if path.is_dir()} == {0o755}
        assert {path.stat().st_mode & 0o777 for path in found if path.is_file()} == {0o644}


def test_errors_have_exit_codes(signer: SignerCli) -> None:
    work = signer.work
    bad = write_release(work / "r")
    (bad / "manifest.toml").write_text("schema = 1")
    code, out, _ = signer.run("lint", bad)
    assert (code, "NU-7101" in out) == (3, True)
    code, out, _ = signer.run("status", work / "nowhere", "--json")
    assert (code, json.loads(out)["error"]["code"]) == (2, "NU-7084")
    assert signer.run("sign")[0] == 2
    code, out, _ = signer.run("lint", bad, "--json")
    assert (code, len(json.loads(out)["findings"])) == (3, 1)
    assert signer.run("--nonsense")[0] == 2
    signer.secret.chmod(0o640)
    code, _, err = signer.run("keys", "new", "x", "--directory", work, *signer.pass_file)
    assert (code, "NU-7022" in err) == (2, True)
    assert not (work / "x.pem").exists()


def test_lint_reports_an_invalid_manifest_in_french(signer: SignerCli) -> None:
    bad = write_release(signer.work / "r")
    (bad / "manifest.toml").write_text("schema = 1\nfoo = 1")
    out = signer.run("--lang", "fr", "lint", bad)[1]
    assert "foo : nom inconnu" in out and "version : valeur manquante" in out


def test_lint_names_the_missing_manifest(signer: SignerCli) -> None:
    out = signer.run("lint", signer.work / "nowhere")[1]
    assert "manifest.toml: No such file or directory" in out and "Errno" not in out


def test_passphrase_is_read_from_a_pipe(signer: SignerCli) -> None:
    read, write = os.pipe()
    os.write(write, f"{PASSPHRASE}\n".encode())
    os.close(write)
    made = signer.json(
        "keys", "new", "y", "--directory", signer.work, "--passphrase-file", f"/dev/fd/{read}"
    )
    os.close(read)
    assert Path(made["private"]).exists()


def test_draft_text_cannot_control_the_terminal(signer: SignerCli) -> None:
    work = signer.work
    signer.run("init", work / "ceremony.toml", "--event", work / "e1")
    signer.sign_and_publish(work / "e1")
    reason = (
        "--reason",
        "loses\r\u202ecases\nncen: nothing",
        "--advice",
        "-",
        "--feed",
        work / "feed",
    )
    release = write_release(work / "r")
    signer.json("build", release, "--staging", work / "s")
    signer.run("draft", "--feed", work / "feed", "--staging", work / "s", "--event", work / "e2")
    signer.sign_and_publish(work / "e2", "--staging", work / "s")
    code, out, _ = signer.run("withdraw", "3.3.0", *reason, "--event", work / "e3")
    assert code == 0
    assert "WITHDRAWN" in out
    assert not {"\r", "\u202e"} & set(out)
    assert "\nncen: nothing" not in out


def test_help_and_options_are_accepted_in_any_order(signer: SignerCli) -> None:
    assert signer.run("--lang", "fr", "publish", "--help") == signer.run(
        "publish", "--lang", "fr", "--help"
    )
    code, out, _ = signer.run("publish", "--help", "--lang", "fr")
    assert code == 0
    assert "Publier un événement signé" in out
    code, out, err = signer.run("--json", "status", signer.work / "nowhere")
    assert (code, json.loads(out)["error"]["code"], err) == (2, "NU-7084", "")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_completely_translated_to_french(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    words = [command.help, *(o.help for o in command.params if isinstance(o, click.Option))]
    for text in words:
        assert text
        assert translate(text, "fr") != text


def test_program_imports_nothing_heavy_for_help() -> None:
    """Nothing heavy is imported to show the help."""
    code = (
        "import sys; from ncen_updater.publisher.cli.main import COMMANDS, run; run(['--help']);"
        "heavy = {'tuf', 'tufup', 'pydantic', 'cryptography', 'requests'} & set(sys.modules);"
        "sys.exit(', '.join(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_build_and_publish_report_progress(signer: SignerCli) -> None:
    work = signer.work
    release = write_release(work / "r")
    _, _, err = signer.run("build", release, "--staging", work / "s")
    assert "packing" in err
    _, _, err = signer.run("build", release, "--staging", work / "s2", "--quiet")
    assert err == ""
    signer.json("init", work / "ceremony.toml", "--event", work / "e1")
    _, _, err = signer.run("publish", work / "feed", "--event", work / "e1", *signer.online)
    assert "verifying the signatures" in err


def test_signing_needs_an_own_trusted_root(signer: SignerCli) -> None:
    work, feed = signer.work, signer.work / "feed"
    signer.json("init", work / "ceremony.toml", "--event", work / "e1")
    signer.sign_and_publish(work / "e1")
    assert signer.json("renew", "root", "--feed", feed, "--event", work / "e2")["anchored"]
    digest = signer.json("show", work / "e2")["digest"]
    sign = ("sign", work / "e2", "--key", work / "keys/amina.pem", "--digest", digest, "--yes")
    code, _, err = signer.run(*sign, *signer.pass_file)
    assert (code, OWN_ROOT_REQUIRED.code in err) == (2, True)
    code, out, _ = signer.run("show", work / "e2")
    assert "WARNING: not compared with your own root" in out
    root = ("--root", feed / "metadata" / "1.root.json")
    code, out, _ = signer.run("show", work / "e2", *root)
    assert "WARNING" not in out
    assert signer.run(*sign, *root, *signer.pass_file)[0] == 0
    assert signer.run(*sign[:2], "--digest", digest)[0] == 2
