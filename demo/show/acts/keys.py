"""Act on keys: signers create keys and hold the key ceremony; signatures need two of three."""

from __future__ import annotations

import secrets

from demo.show.acts.signing import digest_of_event, sign_and_publish
from demo.show.report import Row
from demo.show.stage import Stage
from ncen_updater.common.i18n import N_, LazyText

OFFICERS = ("amina", "bo", "chen")
MACHINES = ("snapshot", "timestamp")
EVENT = "events/1-ceremony"


def play(stage: Stage) -> None:
    """Create the keys and publish an empty feed."""
    say, run = stage.narrator.say, stage.commands.run
    stage.narrator.act(N_("Signing keys"))
    say(
        N_(
            "Three signers create a key each; the threshold is two of three. Two more keys, for"
            " snapshot and timestamp, stay online."
        )
    )
    passphrase = stage.places.passphrase
    passphrase.touch(mode=0o600)
    passphrase.write_text(f"{secrets.token_urlsafe(18)}\n", "utf-8")
    for name in (*OFFICERS, *MACHINES):
        run("ncen-publisher", "keys", "new", name, "--directory", "keys",
            "--passphrase-file", "passphrase", limit=1)  # fmt: skip
    (stage.places.directory / "ceremony.toml").write_text(_ceremony(), "utf-8")
    run("ncen-publisher", "init", "ceremony.toml", "--event", EVENT, limit=12)
    digest = digest_of_event(stage, EVENT)
    broken = sign_and_publish(stage, EVENT, digest, ("amina", "bo"), ())
    stage.judge(
        Row(
            LazyText(N_("publish root metadata with one signature of three")),
            LazyText(N_("refused until the second signature")),
            LazyText(N_("refused, then published")) if not broken else LazyText("-"),
            broken=broken,
        )
    )


def _ceremony() -> str:
    lines = []
    officers = ", ".join(f'"keys/{name}.pub.json"' for name in OFFICERS)
    for role in ("root", "targets", "ncen", "ncen-updater"):
        lines.append(f"[roles.{role}]\nkeys = [{officers}]\nthreshold = 2\n")
    for role in MACHINES:
        lines.append(f'[roles.{role}]\nkeys = ["keys/{role}.pub.json"]\nthreshold = 1\n')
    return "\n".join(lines)
