"""Act on a signing event: one signature is not enough; the second one allows publication."""

from __future__ import annotations

from collections.abc import Sequence

from demo.show.proof import directory_digest
from demo.show.stage import Stage
from ncen_updater.common.i18n import N_, LazyText


def digest_of_event(stage: Stage, event: str) -> str:
    """Return the event digest that signers compare before they sign."""
    from ncen_updater.publisher.signing.signing_event import SigningEvent

    return SigningEvent.load(stage.places.directory / event).digest


def sign_and_publish(
    stage: Stage, event: str, digest: str, officers: tuple[str, str], staging: Sequence[str]
) -> tuple[LazyText, ...]:
    """Sign as the first signer, check that nothing is published, sign as the second, publish.

    Returns:
        Broken promises.
    """
    say, run = stage.narrator.say, stage.commands.run
    broken = []
    sign = ["ncen-publisher", "sign", event, "--digest", digest[:32], "--yes"]
    if (stage.places.feed / "metadata" / "1.root.json").exists():  # not yet before the first event
        sign += ["--root", "feed/metadata/1.root.json"]
    publish = ["ncen-publisher", "publish", "feed", "--event", event,
               "--snapshot-key", "keys/snapshot.pem", "--timestamp-key", "keys/timestamp.pem",
               "--passphrase-file", "passphrase"]  # fmt: skip
    for place in staging:
        publish += ["--staging", place]
    before = directory_digest(stage.places.feed)
    run(*sign, "--key", f"keys/{officers[0]}.pem", "--passphrase-file", "passphrase", limit=3)
    say(N_("Publication with only this signature:"))
    refused = run(*publish)
    if refused.status == 0 or directory_digest(stage.places.feed) != before:
        broken.append(LazyText(N_("The feed was published with one signature of three.")))
    else:
        stage.narrator.good(
            N_("Refused with exit code {status}; the feed is unchanged."),
            status=refused.status,
        )
    run(*sign, "--key", f"keys/{officers[1]}.pem", "--passphrase-file", "passphrase", limit=3)
    done = run(*publish, limit=6)
    if done.status != 0:
        broken.append(LazyText(N_("The feed was refused with two signatures of three.")))
    return tuple(broken)
