"""Run a command line: every outcome becomes data, or an error with four facts and an exit code.

Both programs use it. No exception leaves it, and no traceback is printed.
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
from types import FrameType

import click

from ncen_updater.common.cli.render import format_error, supports_color
from ncen_updater.common.cli.session import CliSession, discard_stream
from ncen_updater.common.cli.usage import (
    CommandInterruptedError,
    UnexpectedError,
    click_in,
    format_usage_error,
)
from ncen_updater.common.error_sanitizer import sanitize_error
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText, match_language, read_language_from_environment
from ncen_updater.common.json_records import error_to_json
from ncen_updater.common.messages import BAD_USAGE, OUTPUT_LOST, ExitCode


class TerminationRequested(BaseException):
    """A signal, on its way out of a command.

    It is no error yet: what takes an error for a finding, and goes on, would take the signal, too.

    Attributes:
        signal: Its name.
    """

    def __init__(self, signal: str) -> None:
        super().__init__(signal)
        self.signal = signal


class TerminationHandler:
    """Raises :class:`TerminationRequested` where the program is, and remembers it.

    What is raised in the middle of a library, in one that is imported just then above all, may not
    come out of it. So who takes the signals over asks whether one came before.

    Attributes:
        told: The last signal that came.
    """

    def __init__(self) -> None:
        self.received_signal: signal.Signals | None = None

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        """Be the handler."""
        self.received_signal = signal.Signals(number)
        raise TerminationRequested(self.received_signal.name)


#: Says what runs now, asked only after an error that does not know it itself.
StateReporter = Callable[[UpdaterError], Sequence[LazyText]]


def run_program(
    group: click.Group, session: CliSession, arguments: Sequence[str], report_state: StateReporter
) -> int:
    """Run a command line and return its exit code.

    Args:
        group: The commands; each returns an exit code or None.
        session: What the options are written to.
        arguments: The words after the program's name.
        report_state: Called for the second of the four facts.
    """
    _replace_closed_streams()
    _read_early_options(session, arguments)
    with click_in(session.language):
        code = _run_group(group, session, arguments, report_state)
    lost = session.output_error or _flush_stdout()
    unwritten = _report_lost_output(session, lost) if lost is not None else code
    return code or unwritten


def _run_group(
    group: click.Group, session: CliSession, arguments: Sequence[str], state_now: StateReporter
) -> int:
    try:
        with _handle_signals():
            result = group.main(
                list(arguments), prog_name=session.program, standalone_mode=False, obj=session
            )
        return int(result or ExitCode.OK)
    except UpdaterError as error:
        failure = session.clarify_error(error) or error
    except click.ClickException as error:
        if isinstance(error, click.exceptions.NoArgsIsHelpError) and not session.as_json:
            # The bare name is no mistake: it asks what commands exist.
            session.print_message(error.format_message())
            return int(BAD_USAGE.exit_code)
        context = getattr(error, "ctx", None)
        command = context.command_path if context else session.program
        failure = UpdaterError(
            BAD_USAGE,
            command=command,
            detail=format_usage_error(error, session.language),
        )
    except SystemExit:  # click gives up its help where nobody reads it any more
        return ExitCode.OK
    except click.Abort:
        failure = CommandInterruptedError(signal="SIGINT")
    except TerminationRequested as reported:
        failure = CommandInterruptedError(signal=reported.signal)
    except Exception as error:
        if isinstance(error, OSError) and _is_help_output_error(error):
            discard_stream(sys.stdout)
            session.output_error = None if isinstance(error, BrokenPipeError) else error
            return ExitCode.OK
        logging.getLogger(__name__).debug("unexpected", exc_info=True)
        failure = session.clarify_error(error) or _wrap_unexpected(error, session)
    return show_error(session, failure, state_now)


def show_error(session: CliSession, error: UpdaterError, report_state: StateReporter) -> int:
    """Show the four facts, in JSON on stdout or plainly on stderr; return the exit code."""
    # Without the detail, which may quote a row of a database.
    logging.getLogger(__name__).error("%s", error.title_text, extra={"code": error.code})
    state = [error.state] if error.state is not None else _get_state_lines(error, report_state)
    contact = session.get_contact(error)
    if session.as_json:
        known = {} if contact is None else {"contact": contact}
        failure = error_to_json(error, state, session.language) | known
        session.write_output({**session.beside, "error": failure})
    else:
        session.write_output({})  # what was already known is shown before the error
        lines = format_error(
            error, state, session.language, rich=supports_color(sys.stderr), contact=contact,
            columns=_get_terminal_width(),
        )  # fmt: skip
        session.print_message("\n".join(lines), is_clean=True)
    return int(error.exit_code)


def _get_terminal_width() -> int | None:
    """Width of the terminal that errors are shown on; None where it is none."""
    return shutil.get_terminal_size().columns if sys.stderr.isatty() else None


def _replace_closed_streams() -> None:
    """Let a standard stream that the caller closed lead nowhere; what stdout gets there is lost.

    Else Python has none, and the next file that is opened gets its number and the words for people.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # The lowest free number: this one, where nobody took it. None can write to stdout's.
            way = os.O_RDONLY if name == "stdout" else os.O_RDWR
            setattr(sys, name, os.fdopen(os.open(os.devnull, way), mode))


def _flush_stdout() -> OSError | None:
    """Write what is held, else Python's end does and fails; return why stdout's was lost."""
    lost: OSError | None = None
    for stream in (sys.stderr, sys.stdout):
        lost = None
        try:
            stream.flush()
        except OSError as error:
            discard_stream(stream)
            lost = None if isinstance(error, BrokenPipeError) else error
    return lost


def _is_help_output_error(error: OSError) -> bool:
    """Tell whether stdout did not take words of click's own, such as those of --help."""
    frames = traceback.extract_tb(error.__traceback__)
    return Path(frames[-1].filename).is_relative_to(Path(click.__file__).parent)


def _report_lost_output(session: CliSession, lost: OSError) -> int:
    """Say on stderr that the data were lost; what the command did is not changed by that."""
    error = UpdaterError(OUTPUT_LOST, reason=os.strerror(lost.errno or 0))
    state = [LazyText(N_("The command completed."))]
    lines = format_error(error, state, session.language, rich=supports_color(sys.stderr))
    session.print_message("\n".join(lines), is_clean=True)
    return int(error.exit_code)


def _get_state_lines(error: UpdaterError, state_now: StateReporter) -> Sequence[LazyText]:
    from ncen_updater.common.cli.usage import SITE_STATE_UNKNOWN

    try:
        return state_now(error)
    except Exception as second:
        logging.getLogger(__name__).debug("state unknown", exc_info=True)
        return [LazyText(SITE_STATE_UNKNOWN, {"why": f"{type(second).__name__}: {second}"})]


def _wrap_unexpected(error: Exception, session: CliSession) -> UnexpectedError:
    name = type(error).__name__
    trace = "".join(traceback.format_exception(error))
    place = traceback.extract_tb(error.__traceback__)[-1:]
    where = "".join(f"{frame.filename}:{frame.lineno}" for frame in place)
    # A person who asks for everything gets it; else nothing that may quote a row.
    detail = trace if session.verbose else f"{sanitize_error(error)} ({where})"
    return UnexpectedError(kind=name, detail=detail)


def _read_early_options(session: CliSession, arguments: Sequence[str]) -> None:
    """Find out how a mistake in the command line itself is to be shown."""
    session.language = read_language_from_environment()
    words = list(arguments)
    if "--" in words:
        words = words[: words.index("--")]
    session.as_json = "--json" in words
    session.verbose = "--verbose" in words
    for number, word in enumerate(words):
        value = word.partition("=")[2] if word.startswith("--lang=") else ""
        if word == "--lang" and number + 1 < len(words):
            value = words[number + 1]
        session.language = match_language(value) or session.language
    _configure_logging(session)


def _configure_logging(session: CliSession) -> None:
    """Show the log where it was asked for; under systemd it goes to the journal, with fields."""
    if "JOURNAL_STREAM" in os.environ:
        from ncen_updater.common.journald import install_logging

        level = logging.DEBUG if session.verbose else logging.INFO
        session.secret_filter = install_logging(level, always=False, program=session.program)
        if session.secret_filter is not None:
            return
    if session.verbose:
        logging.basicConfig(
            level=logging.DEBUG, format="%(asctime)s %(levelname)s %(name)s %(message)s"
        )
    elif not logging.getLogger().handlers:
        # Else Python writes warnings bare to stderr, between the sentences for people.
        logging.getLogger().addHandler(logging.NullHandler())


@contextlib.contextmanager
def _handle_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end a command as an error does; commands may take them over."""
    taken, end = (signal.SIGTERM, signal.SIGHUP), TerminationHandler()
    try:
        before = {number: signal.signal(number, end) for number in taken}
    except ValueError:  # not the main thread, as in some trials: the signals stay as they are
        before = {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def get_invoking_user() -> str:
    """Return who gives the order: the person behind sudo, where there is one."""
    import getpass

    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
