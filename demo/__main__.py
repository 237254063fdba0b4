"""``python -m demo``: the guided demonstration; exit status 1 if a promise was broken."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from demo.show.narrator import Narrator
from demo.starting import ENDING
from ncen_updater.common.cli.render import format_error
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, read_language_from_environment

INTERRUPTED = 130


class Ended(BaseException):
    """A signal requested the end; all processes started are stopped during its propagation."""


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="script/demo",
        description="Shows ncen-updater on a stand-in site. Needs no root and no server.",
    )
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="DIR",
        help="keep everything in DIR, and on a terminal let the site run until you press Enter",
    )
    parser.add_argument("--sqlite", action="store_true", help="run on SQLite, not on PostgreSQL")
    parser.add_argument(
        "--cases",
        type=int,
        default=2000,
        metavar="N",
        help="generated cases, 1 to 100000 (default: 2000; about eight rows each)",
    )
    parser.add_argument("--quick", action="store_true", help="a few acts only")
    parser.add_argument(
        "--lang",
        choices=("en", "fr"),
        default=read_language_from_environment(),
        help="language of the output",
    )
    options = parser.parse_args(argv)
    if not 1 <= options.cases <= 100_000:
        parser.error("--cases takes a number from 1 to 100000")
    if (
        options.keep is not None
        and options.keep.exists()
        and (not options.keep.is_dir() or any(options.keep.iterdir()))
    ):
        parser.error(f"{options.keep} is not empty; --keep needs a new or empty directory")
    return options


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


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demonstration."""
    options = _options(sys.argv[1:] if argv is None else argv)
    narrator = Narrator(sys.stdout, options.lang)
    try:
        with _signals():
            return _play(options, narrator)
    except Ended:
        narrator.lines([""])
        narrator.say(N_("Interrupted. All started processes have ended."))
        return INTERRUPTED
    except UpdaterError as error:
        narrator.lines(format_error(error, (), options.lang, rich=narrator.rich))
        return int(error.exit_code)


def _play(options: argparse.Namespace, narrator: Narrator) -> int:
    from demo.show.programme import Options, run_show

    def linger() -> None:
        narrator.say(N_("The site is still running. Press Enter to stop it."))
        sys.stdin.readline()

    broken = run_show(
        Options(
            keep=options.keep,
            sqlite=options.sqlite,
            cases=options.cases,
            quick=options.quick,
            language=options.lang,
            linger=linger if options.keep and sys.stdin.isatty() else None,
        ),
        narrator,
    )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
