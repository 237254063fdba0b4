"""Act: two releases are checked, built reproducibly, signed and published."""

from __future__ import annotations

from demo.releases import assemble
from demo.show.acts.signing import digest_of_event, sign_and_publish
from demo.show.proof import directory_digest
from demo.show.report import Row
from demo.show.stage import Stage
from ncen_updater.common.i18n import N_, LazyText

VERSIONS = ("3.2.4", "3.3.0")
EVENT = "events/2-releases"


def play(stage: Stage) -> None:
    """Publish the release that the sites run, and its upgrade."""
    say, run = stage.narrator.say, stage.commands.run
    stage.narrator.act(N_("Two releases published"))
    say(
        N_(
            "nCEN is not public. These releases are of a stand-in: a small web application with"
            " three databases."
        )
    )
    for version in VERSIONS:
        assemble(version, stage.places.sources / version)
    if not stage.quick:
        run("ncen-publisher", "lint", "sources/3.3.0", limit=4)
    for version in VERSIONS:
        run("ncen-publisher", "build", f"sources/{version}", "--staging", "staging", limit=1)
    say(N_("A second builder gets the same bytes on another day:"))
    for version in VERSIONS:
        run("ncen-publisher", "build", f"sources/{version}", "--staging", "again", limit=1)
    directory = stage.places.directory
    same = directory_digest(directory / "staging") == directory_digest(directory / "again")
    if same:
        stage.narrator.good(N_("Both builds are identical."))
    run("ncen-publisher", "draft", "--feed", "feed", "--event", EVENT, "--staging", "staging",
        limit=14)  # fmt: skip
    digest = digest_of_event(stage, EVENT)
    broken = list(sign_and_publish(stage, EVENT, digest, ("bo", "chen"), ("staging",)))
    if not same:
        broken.append(LazyText(N_("The two builds differ.")))
    if not stage.quick:
        run("ncen-publisher", "status", "feed")
    stage.judge(
        Row(
            LazyText(N_("publish 3.2.4 and 3.3.0 with one signature of three")),
            LazyText(N_("refused until the second signature")),
            LazyText(N_("refused, then published")) if not broken else LazyText("-"),
            broken=tuple(broken),
        )
    )
