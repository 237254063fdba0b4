"""Runs a command line: whatever happens comes out as data, four facts and an exit code.

Both programs use it. No exception leaves it, and no bare trace is shown.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click

from ncen_updater.common.cli.errors import NOTHING_CHANGED, Stopped, Unexpected
from ncen_updater.common.cli.render import error_lines, is_rich
from ncen_updater.common.cli.session import Session, silence
from ncen_updater.common.cli.usage import click_in, usage_words
from ncen_updater.common.database_words import said
from ncen_updater.common.documents import error_document
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, Text, language_from_environment, language_of
from ncen_updater.common.messages import BAD_USAGE, UNWRITTEN, ExitCode
from ncen_updater.common.told_to_end import EndBySignal, ToldToEnd

#: Says what runs now, asked only after an error that does not know it itself.
StateNow = Callable[[UpdaterError], Sequence[Text]]


def run_program(
    group: click.Group, session: Session, arguments: Sequence[str], state_now: StateNow
) -> int:
    """Run a command line and return its exit code.

    Args:
        group: The commands; each returns an exit code or None.
        session: What the options are written to.
        arguments: The words after the program's name.
        state_now: Called for the second of the four facts.
    """
    _open_streams()
    _before_parsing(session, arguments)
    with click_in(session.language):
        code = _run(group, session, arguments, state_now)
    lost = session.lost or _flush()
    unwritten = _unwritten(session, lost) if lost is not None else code
    return code or unwritten


def _run(
    group: click.Group, session: Session, arguments: Sequence[str], state_now: StateNow
) -> int:
    try:
        with _signals():
            result = group.main(
                list(arguments), prog_name=session.program, standalone_mode=False, obj=session
            )
        return int(result or ExitCode.OK)
    except UpdaterError as error:
        failure = session.explain(error) or error
    except click.ClickException as error:
        if isinstance(error, click.exceptions.NoArgsIsHelpError) and not session.as_json:
            # Whoever types the name alone made no mistake: they want to know what there is.
            session.say(error.format_message())
            return int(BAD_USAGE.exit_code)
        context = getattr(error, "ctx", None)
        command = context.command_path if context else session.program
        failure = UpdaterError(
            BAD_USAGE,
            command=command,
            detail=usage_words(error, session.language),
            state=NOTHING_CHANGED,
        )
    except click.Abort:
        failure = Stopped(signal="SIGINT")
    except ToldToEnd as told:
        failure = Stopped(signal=told.signal)
    except Exception as error:
        if isinstance(error, OSError) and _while_showing(error):
            silence(sys.stdout)
            session.lost = None if isinstance(error, BrokenPipeError) else error
            return ExitCode.OK
        logging.getLogger(__name__).debug("unexpected", exc_info=True)
        failure = session.explain(error) or _unexpected(error, session)
    return show_error(session, failure, state_now)


def show_error(session: Session, error: UpdaterError, state_now: StateNow) -> int:
    """Show the four facts, in JSON on stdout or plainly on stderr; return the exit code."""
    # Without the detail, which may quote a row of a database.
    logging.getLogger(__name__).error("%s", error.what_text, extra={"code": error.code})
    state = [error.state] if error.state is not None else _state(error, state_now)
    contact = session.contact(error)
    if session.as_json:
        known = {} if contact is None else {"contact": contact}
        told = error_document(error, state, session.language) | known
        session.finish({**session.beside, "error": told})
    else:
        session.finish({})  # what was already known is shown before the error
        lines = error_lines(
            error, state, session.language, rich=is_rich(sys.stderr), contact=contact,
            columns=_columns(),
        )  # fmt: skip
        session.say("\n".join(lines), painted=True)
    return int(error.exit_code)


def _columns() -> int | None:
    """Width of the terminal that errors are shown on; None where it is none."""
    return shutil.get_terminal_size().columns if sys.stderr.isatty() else None


def _open_streams() -> None:
    """Let a standard stream that the caller closed lead nowhere; what stdout gets there is lost.

    Else Python has none, and the next file that is opened gets its number and the words for people.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # The lowest free number: this one, where nobody took it. None can write to stdout's.
            way = os.O_RDONLY if name == "stdout" else os.O_RDWR
            setattr(sys, name, os.fdopen(os.open(os.devnull, way), mode))


def _flush() -> OSError | None:
    """Write what is held, else Python's end does and fails; return why stdout's was lost."""
    lost: OSError | None = None
    for stream in (sys.stderr, sys.stdout):
        lost = None
        try:
            stream.flush()
        except OSError as error:
            silence(stream)
            lost = None if isinstance(error, BrokenPipeError) else error
    return lost


def _while_showing(error: OSError) -> bool:
    """Whether stdout did not take words of click's own, such as those of --help."""
    frames = traceback.extract_tb(error.__traceback__)
    return Path(frames[-1].filename).is_relative_to(Path(click.__file__).parent)


def _unwritten(session: Session, lost: OSError) -> int:
    """Say on stderr that the data were lost; what the command did is not changed by that."""
    error = UpdaterError(UNWRITTEN, reason=os.strerror(lost.errno or 0))
    state = [Text(N_("The command itself came to its end."))]
    lines = error_lines(error, state, session.language, rich=is_rich(sys.stderr))
    session.say("\n".join(lines), painted=True)
    return int(error.exit_code)


def _state(error: UpdaterError, state_now: StateNow) -> Sequence[Text]:
    from ncen_updater.common.cli.errors import UNKNOWN

    try:
        return state_now(error)
    except Exception as second:
        logging.getLogger(__name__).debug("state unknown", exc_info=True)
        return [Text(UNKNOWN, {"why": f"{type(second).__name__}: {second}"})]


def _unexpected(error: Exception, session: Session) -> Unexpected:
    name = type(error).__name__
    trace = "".join(traceback.format_exception(error))
    place = traceback.extract_tb(error.__traceback__)[-1:]
    where = "".join(f"{frame.filename}:{frame.lineno}" for frame in place)
    # A person who asks for everything gets it; else nothing that may quote a row.
    detail = trace if session.verbose else f"{said(error)} ({where})"
    return Unexpected(kind=name, detail=detail)


def _before_parsing(session: Session, arguments: Sequence[str]) -> None:
    """Find out how a mistake in the command line itself is to be shown."""
    session.language = language_from_environment()
    words = list(arguments)
    if "--" in words:
        words = words[: words.index("--")]
    session.as_json = "--json" in words
    session.verbose = "--verbose" in words
    for number, word in enumerate(words):
        value = word.partition("=")[2] if word.startswith("--lang=") else ""
        if word == "--lang" and number + 1 < len(words):
            value = words[number + 1]
        session.language = language_of(value) or session.language
    _begin_log(session)


def _begin_log(session: Session) -> None:
    """Show the log where it was asked for; under systemd it goes to the journal, with fields."""
    if "JOURNAL_STREAM" in os.environ:
        from ncen_updater.common.journald import install

        level = logging.DEBUG if session.verbose else logging.INFO
        session.masking = install(level, always=False, program=session.program)
        if session.masking is not None:
            return
    if session.verbose:
        logging.basicConfig(
            level=logging.DEBUG, format="%(asctime)s %(levelname)s %(name)s %(message)s"
        )
    elif not logging.getLogger().handlers:
        # Else Python writes warnings bare to stderr, between the sentences for people.
        logging.getLogger().addHandler(logging.NullHandler())


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end a command as an error does; commands may take them over."""
    taken, end = (signal.SIGTERM, signal.SIGHUP), EndBySignal()
    try:
        before = {number: signal.signal(number, end) for number in taken}
    except ValueError:  # not the main thread, as in some trials: the signals stay as they are
        before = {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def user_name() -> str:
    """Return who gives the order: the person behind sudo, where there is one."""
    import getpass

    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
