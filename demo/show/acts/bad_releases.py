"""Act on bad releases: each fails in a different way, and the site is as it was afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from demo.releases import assemble
from demo.show.stage import Stage
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import ExitCode


@dataclass(frozen=True)
class Bad:
    """A release that fails.

    Attributes:
        version: Its version.
        story: Its defect.
        expected: Expected result, for the table.
        statuses: Correct exit statuses.
        commits: Whether it fails after the commit, when users already work with it.
    """

    version: str
    story: str
    expected: str
    statuses: tuple[ExitCode, ...]
    commits: bool = False


UNDONE = (ExitCode.ROLLED_BACK,)
ALL = (
    Bad("3.3.1", N_("the migration of the third database fails"),
        N_("reverted"), UNDONE),
    Bad("3.3.2", N_("a migration never ends"),
        N_("stopped in time, reverted"), UNDONE),
    Bad("3.3.3", N_("a migration loses one record"),
        N_("detected, reverted"), UNDONE),
    Bad("3.3.4", N_("the application never becomes healthy"),
        N_("reverted"), UNDONE),
    Bad("3.3.5", N_("reports another version"),
        N_("detected, reverted"), UNDONE),
    Bad("3.3.6", N_("fails in the soak period"),
        N_("rolled back, new records kept"), UNDONE, commits=True),
    Bad("3.3.7", N_("needs more disk space than available"),
        N_("refused before any change"), (ExitCode.BLOCKED, ExitCode.SPACE)),
    Bad("3.3.8", N_("only for another country"),
        N_("refused before any change"), (ExitCode.BLOCKED, ExitCode.TRUST, ExitCode.ERROR)),
)  # fmt: skip
QUICK = ("3.3.1",)


def play(stage: Stage) -> None:
    """Upgrade to each bad release in turn."""
    stage.narrator.act(N_("Bad releases"))
    publish_the_rest(stage)
    for bad in ALL:
        if not stage.quick or bad.version in QUICK:
            _let_fail(stage, bad)
    if stage.quick:
        return
    stage.narrator.say(
        N_("The site marks failed releases as bad and does not retry them automatically:")
    )
    stage.commands.run("ncen-updater", "status")


def publish_the_rest(stage: Stage) -> None:
    """Publish all other releases in one event, with the same keys and two signatures."""
    from demo.release_flow import publish_release
    from ncen_updater.publisher.new.trial import create_keys

    versions = [bad.version for bad in ALL] + ["3.3.10", "3.4.0"]
    stage.narrator.say(
        N_(
            "Two signers sign {count} more releases: eight bad ones, a required release and its"
            " successor."
        ),
        count=len(versions),
    )
    passphrase = stage.places.passphrase.read_text("utf-8").strip()
    with stage.narrator.working() as progress:
        progress.report(LazyText(N_("building, signing and publishing")))
        sources = [assemble(name, stage.places.sources / name) for name in versions]
        keys = create_keys(stage.places.keys, passphrase)
        publish_release(stage.places.feed, sources, keys, lambda: datetime.now(UTC))


def _let_fail(stage: Stage, bad: Bad) -> None:
    stage.narrator.lines([""])
    stage.narrator.say(N_("{version}: {story}"), version=bad.version, story=LazyText(bad.story))
    with stage.trial(
        LazyText(N_("{version}: {story}"), {"version": bad.version, "story": LazyText(bad.story)}),
        LazyText(bad.expected),
        runs="3.3.0",
        # After a commit, rows were migrated up and down: compare them by content.
        undone=not bad.commits,
    ) as trial:
        ran = stage.commands.run("ncen-updater", "upgrade", bad.version, "--yes", "--quiet")
        trial.ended(ran.status, *bad.statuses)
