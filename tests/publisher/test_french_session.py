"""Signers who work in French: no command says a word of English (:mod:`tests.support.french`)."""

from __future__ import annotations

import re
from pathlib import Path

from ncen_updater.publisher.cli.main import COMMANDS
from tests.publisher.releases import write_release
from tests.publisher.test_cli import SignerCli, signer
from tests.support.french import DETAIL, foreign

__all__ = ["signer"]

#: Roles, signers and directories of the trial, files and fields of its release, by their names.
NAMES = (
    "amina bo chen snapshot timestamp targets root ncen updater stable main cases feed r s keys"
    " metadata trees releases deltas sbom languages language bin app link empty health name"
    " path overlays kind format release site translations json notes text title words product"
    " schema Zahl not requirement correct horse battery"  # what is wrong with a lock file
)


def test_every_command_is_in_french(signer: SignerCli) -> None:
    work, feed = signer.work, signer.work / "feed"
    said: dict[str, str] = {}

    def run(*words: object) -> str:
        _, out, err = signer.run("--lang", "fr", *words)
        line = " ".join(str(word).replace(str(work), "") for word in words)
        # Digests as words are of no language.
        said[line] = re.sub(r"(?:\b[a-z]{5}\b[\s-]*){8}", " ", out + err)
        return out

    def signed(event: Path, *more: object) -> None:
        digest = signer.json("show", event)["digest"]
        first = feed / "metadata" / "1.root.json"
        told = (
            "--digest",
            digest,
            *(("--root", first) if first.exists() else ()),
            *signer.pass_file,
        )
        run("publish", feed, "--event", event, *more, *signer.online)
        for name in ("amina", "bo"):
            key = ("--key", work / f"keys/{name}.pem")
            run("sign", event, *key, *told)
            run("sign", event, *key, *told, "--yes")
            run("sign", event, *key, *told, "--yes")
        run("show", event)
        run("publish", feed, "--event", event, *more, *signer.online)

    run("keys", "show", work / "keys/amina.pub.json", work / "nowhere.json")
    run("keys", "new", "amina", "--directory", work / "keys", *signer.pass_file)
    run("init", work / "nowhere.toml", "--event", work / "e0")
    run("init", work / "ceremony.toml", "--event", work / "e1")
    signed(work / "e1")
    health = '[[health]]\nname = "réponse"\npath = "/"\n'
    carried = (
        '[[overlays]]\nkind = "translations"\nformat = "json"\nrelease_path = "i18n/{lang}.json"\n'
        'site_path = "i18n/{lang}.json"\n'
    )
    release = write_release(work / "r", extra=health + carried)
    (release / "i18n").mkdir()
    (release / "i18n/en.json").write_text('{"a": "Réf. {ref}", "b": "B"}')
    run("lint", release, "--feed", feed)
    run("build", release, "--staging", work / "s")
    wave = ("--wave", "2020-01-01T00:00:00Z=20")
    run("draft", "--feed", feed, "--staging", work / "s", "--event", work / "e2", *wave)
    signed(work / "e2", "--staging", work / "s")
    run("refresh", feed, *signer.online)
    run("status", feed)
    target = ("3.3.0", "--feed", feed, "--event")
    run("wave", *target, work / "e3", "2020-01-01T00:00:00Z=50:KE,ZZ")
    run("wave", *target, work / "e3", "2030-01-01T00:00:00Z=50:KE")
    run("halt", *target, work / "e4", "--reason", "essai")
    run("resume-wave", *target, work / "e5")
    run("channel", *target[:1], "preview", *target[1:], work / "e6")
    run("audience", *target[:1], "KE", *target[1:], work / "e7")
    advice = ("--reason", "essai", "--advice", "revenir")
    run("withdraw", *target, work / "e8", *advice)
    run("retire", *target, work / "e12")
    run("merge", work / "e8")
    run("renew", "ncen", "--feed", feed, "--event", work / "e9")
    run("renew", "--due", "--feed", feed, "--event", work / "e10")
    run("rekey", work / "ceremony.toml", "--feed", feed, "--event", work / "e11")
    run(
        "halt",
        "--emergency",
        *target[:3],
        "--reason",
        "essai",
        "--key",
        work / "keys/amina.pem",
        *signer.online,
    )
    run("inspect", feed, "3.3.0")
    run("upload", feed, work / "served")
    run("export", feed, "--for-site", "KE/ke-1", "--from", "3.3.0", "--output", work / "ke.ncen")
    run("export", feed, "--for-site", "KE/ke-1", "--from", "3.2.4", "--output", work / "ke.ncen")
    run("fleet", "forget", "ke-1", "--record", work / "fleet.db")
    run("monitor", "http://127.0.0.1:9/", "--root", feed / "metadata/1.root.json")
    run("show", work / "nowhere")
    run("new", work / "r", "--yes")
    run("try", work / "r", "--before", work / "r", "--site", work / "nowhere.toml", "--yes")
    assert {line.split()[0] for line in said} == set(COMMANDS)
    found = {
        line: left for line, text in said.items() if (left := foreign(DETAIL.sub("", text), NAMES))
    }
    assert found == {}, found
