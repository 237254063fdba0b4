"""Order of the acts, and start and stop of everything they need."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from demo.databases import PostgresPlace
from demo.embedded_postgres import EmbeddedPostgres
from demo.show.acts import (
    bad_releases,
    closing,
    keys,
    killed_agent,
    killed_between,
    killed_server,
    own_words,
    publish,
    required_stop,
    rollback,
    take_over,
    upgrade,
)
from demo.show.commands import Commands
from demo.show.narrator import Narrator
from demo.show.report import Row, broken_rows
from demo.show.server import running_server
from demo.show.stage import Places, Stage, serve
from demo.site import DemoSite, SiteOptions
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText

logger = logging.getLogger(__name__)

Act = Callable[[Stage], None]

WHOLE: tuple[Act, ...] = (
    keys.play,
    publish.play,
    take_over.play,
    own_words.begin,
    upgrade.play,
    own_words.after_the_upgrade,
    bad_releases.play,
    rollback.play,
    own_words.after_the_rollback,
    killed_agent.play,
    killed_between.play,
    killed_server.play,
    required_stop.play,
    own_words.after_the_next,
)
QUICK: tuple[Act, ...] = (
    keys.play,
    publish.play,
    take_over.play,
    own_words.begin,
    killed_agent.play,
    upgrade.play,
    own_words.after_the_upgrade,
    bad_releases.play,
    rollback.play,
    own_words.after_the_rollback,
)


@dataclass(frozen=True)
class Options:
    """Options of the demonstration.

    Attributes:
        keep: Keep all files in this directory.
        sqlite: Use SQLite instead of PostgreSQL.
        cases: Generated cases; the total number of rows is about eight times as large.
        quick: Run a few acts only.
        language: Two letters.
        linger: Wait for a key at the end, while everything still runs.
    """

    keep: Path | None = None
    sqlite: bool = False
    cases: int = 2000
    quick: bool = False
    language: str = "en"
    linger: Callable[[], object] | None = None


def run_show(options: Options, narrator: Narrator) -> tuple[Row, ...]:
    """Run all acts; return the rows with a broken promise."""
    with contextlib.ExitStack() as stack:
        stage = _set(options, narrator, stack)
        _play(stage, QUICK if options.quick else WHOLE)
        closing.play(stage, options.keep)
        if options.linger is not None:
            options.linger()
    return broken_rows(stage.rows)


def _play(stage: Stage, acts: Sequence[Act]) -> None:
    for act in acts:
        try:
            act(stage)
        except Exception as error:
            logger.debug("act", exc_info=True)
            why = error if isinstance(error, UpdaterError) else repr(error)
            stage.judge(
                Row(
                    LazyText(N_("an act of the demonstration")),
                    LazyText(N_("completed")),
                    LazyText(N_("failed")),
                    broken=(LazyText(N_("Act failed: {why}"), {"why": why}),),
                )
            )
            return


def _set(options: Options, narrator: Narrator, stack: contextlib.ExitStack) -> Stage:
    if options.keep is None:
        made = tempfile.TemporaryDirectory(prefix="ncen-demo-", ignore_cleanup_errors=True)
        directory = Path(stack.enter_context(made))
    else:
        directory = options.keep.absolute()
        directory.mkdir(parents=True, exist_ok=True)
    places = Places(directory)
    narrator.say(
        N_(
            "ncen-updater with a stand-in for nCEN, which is not public. The application and"
            " its data are invented; keys, feed, databases and kills are real. Files are"
            " only written in {directory} and the temporary directory, and are removed at the"
            " end unless you gave --keep."
        ),
        directory=directory,
    )
    server: EmbeddedPostgres | None = None
    with narrator.working() as progress:
        if not options.sqlite:
            progress.report(LazyText(N_("starting a database server")))
            server = stack.enter_context(running_server())
        progress.report(
            LazyText(N_("setting up a site with {cases} records"), {"cases": options.cases})
        )
        url = stack.enter_context(serve(places.feed))
        site = DemoSite(
            directory / "site",
            PostgresPlace(str(server.host), programs=server.binaries.directory) if server else None,
            SiteOptions(
                cases=options.cases,
                feed_urls=(url,),
                # Sent mail would change old rows, which are compared.
                icomm=False,
                health_timeout_s=8.0,
                soak_s=0.5 if options.quick else 2.0,
            ),
        )
        stack.callback(site.close)
        site.lay_out()
    commands = Commands(narrator, directory, site.config_path)
    return Stage(narrator, commands, places, site, server, options.quick)
