"""``python -m demo``: the guided demonstration; exit status 1 if a promise was broken."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

import click

from demo.show.narrator import Narrator
from demo.starting import ENDING
from ncen_updater.common.cli.lazy import (
    IntegerRange,
    TranslatedCommand,
    get_session,
    make_language_option,
)
from ncen_updater.common.cli.program import run_program
from ncen_updater.common.cli.render import format_error
from ncen_updater.common.cli.session import CliSession
from ncen_updater.common.cli.usage import CommandUsageError
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_

INTERRUPTED = 130


class Ended(BaseException):
    """A signal requested the end; all processes started are stopped during its propagation."""


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    def end(_number: int, _frame: FrameType | None) -> None:
        for number in ENDING:
            # Ignore further signals during the cleanup.
            signal.signal(number, signal.SIG_IGN)
        raise Ended

    before = {number: signal.signal(number, end) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@click.command(
    "script/demo",
    cls=TranslatedCommand,
    help=N_("Show ncen-updater on a stand-in site. Needs no root and no server."),
)
@click.option(
    "--keep",
    metavar="DIRECTORY",
    type=click.Path(path_type=Path),
    help=N_(
        "Keep everything in a new or empty directory; at a terminal the site runs until you"
        " press Enter"
    ),
)
@click.option("--sqlite", is_flag=True, help=N_("Use SQLite instead of PostgreSQL"))
@click.option(
    "--cases",
    type=IntegerRange(1, 100_000),
    default=2000,
    metavar="N",
    help=N_("Generated cases, of about eight rows each (default: 2000)"),
)
@click.option("--quick", is_flag=True, help=N_("Show a few acts only"))
@click.pass_context
def demo(context: click.Context, keep: Path | None, sqlite: bool, cases: int, quick: bool) -> int:
    """Run the demonstration."""
    if keep is not None and keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        words = N_(
            "{path} is not an empty directory. If an earlier demonstration left it,"
            " remove it first."
        )
        raise CommandUsageError(words, path=keep)
    session = get_session(context)
    narrator = Narrator(sys.stdout, session.language)
    try:
        with _signals():
            return _play(narrator, keep, cases, sqlite=sqlite, quick=quick)
    except Ended:
        narrator.lines([""])
        narrator.say(N_("Interrupted. All started processes have ended."))
        return INTERRUPTED
    except UpdaterError as error:
        narrator.lines(format_error(error, (), session.language, rich=narrator.rich))
        return int(error.exit_code)


demo.params.append(make_language_option())


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line."""
    session = CliSession("script/demo")
    return run_program(demo, session, sys.argv[1:] if argv is None else argv, lambda _: ())


def _play(narrator: Narrator, keep: Path | None, cases: int, *, sqlite: bool, quick: bool) -> int:
    from demo.show.programme import Options, run_show

    def linger() -> None:
        narrator.say(N_("The site is still running. Press Enter to stop it."))
        sys.stdin.readline()

    broken = run_show(
        Options(
            keep=keep,
            sqlite=sqlite,
            cases=cases,
            quick=quick,
            language=narrator.language,
            linger=linger if keep and sys.stdin.isatty() else None,
        ),
        narrator,
    )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
