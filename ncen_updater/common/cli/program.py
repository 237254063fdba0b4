"""Run a command line: its outcome is a result or an error, and an exit code.

Both programs use it. No exception leaves it, and a traceback is printed with ``--verbose`` only.
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
    format_usage_error,
    use_click_language,
)
from ncen_updater.common.error_sanitizer import sanitize_error
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText, match_language, read_language_from_environment
from ncen_updater.common.json_records import error_to_json
from ncen_updater.common.messages import BAD_USAGE, OUTPUT_LOST, ExitCode


class TerminationRequested(BaseException):
    """A termination signal, raised in the main thread.

    It derives from BaseException, so that code that handles Exception and continues does not
    swallow it.

    Attributes:
        signal: Name of the signal.
    """

    def __init__(self, signal: str) -> None:
        super().__init__(signal)
        self.signal = signal


class TerminationHandler:
    """A signal handler that raises :class:`TerminationRequested` and stores the signal.

    An exception raised inside a library, above all during an import, may be lost. So code that
    installs its own handlers checks ``received_signal`` first.

    Attributes:
        received_signal: The last signal received.
    """

    def __init__(self) -> None:
        self.received_signal: signal.Signals | None = None

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        """Handle a signal."""
        self.received_signal = signal.Signals(number)
        raise TerminationRequested(self.received_signal.name)


#: Returns the site's state; called only for an error that has no state of its own.
StateReporter = Callable[[UpdaterError], Sequence[LazyText]]


def run_program(
    group: click.Command, session: CliSession, arguments: Sequence[str], report_state: StateReporter
) -> int:
    """Run a command line and return its exit code.

    Args:
        group: The command or commands; each returns an exit code or None.
        session: Session that stores the options.
        arguments: The arguments, without the program's name.
        report_state: Called to get the state for an error.
    """
    _replace_closed_streams()
    _read_early_options(session, arguments)
    with use_click_language(session.language):
        code = _run_group(group, session, arguments, report_state)
    lost = session.output_error or _flush_stdout()
    unwritten = _report_lost_output(session, lost) if lost is not None else code
    return code or unwritten


def _run_group(
    group: click.Command, session: CliSession, arguments: Sequence[str], report_state: StateReporter
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
        if isinstance(error, click.exceptions.NoArgsIsHelpError):
            session.print_message(error.format_message())
            return int(BAD_USAGE.exit_code)
        context = getattr(error, "ctx", None)
        command = context.command_path if context else session.program
        failure = UpdaterError(
            BAD_USAGE,
            command=command,
            detail=format_usage_error(error, session.language),
        )
    except SystemExit:  # click exits if nobody reads its help
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
    return show_error(session, failure, report_state)


def show_error(session: CliSession, error: UpdaterError, report_state: StateReporter) -> int:
    """Show an error, as JSON on stdout or as text on stderr; return the exit code."""
    # Logged without the detail, which may quote a database row.
    logging.getLogger(__name__).error("%s", error.title_text, extra={"code": error.code})
    state = [error.state] if error.state is not None else _get_state_lines(error, report_state)
    contact = session.get_contact(error)
    if session.as_json:
        known = {} if contact is None else {"contact": contact}
        failure = error_to_json(error, state, session.language) | known
        session.write_output({**session.error_members, "error": failure})
    else:
        session.write_output({})  # output of the command so far, before the error
        lines = format_error(
            error, state, session.language, rich=supports_color(sys.stderr), contact=contact,
            columns=_get_terminal_width(),
        )  # fmt: skip
        session.print_message("\n".join(lines), is_clean=True)
    return int(error.exit_code)


def _get_terminal_width() -> int | None:
    """Return the width of stderr's terminal; None if it is not a terminal."""
    return shutil.get_terminal_size().columns if sys.stderr.isatty() else None


def _replace_closed_streams() -> None:
    """Open closed standard streams to /dev/null; output to stdout then fails and is reported.

    Otherwise the next opened file would get the number of such a stream, and our messages.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # os.open returns the lowest free number; read-only for stdout, so that writing fails.
            flags = os.O_RDONLY if name == "stdout" else os.O_RDWR
            setattr(sys, name, os.fdopen(os.open(os.devnull, flags), mode))


def _flush_stdout() -> OSError | None:
    """Flush stdout and stderr, so that Python does not fail at exit; return stdout's error."""
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
    """Return whether click failed to write its own text to stdout, such as the help."""
    frames = traceback.extract_tb(error.__traceback__)
    return Path(frames[-1].filename).is_relative_to(Path(click.__file__).parent)


def _report_lost_output(session: CliSession, lost: OSError) -> int:
    """Report on stderr that output was lost; the result of the command is unchanged."""
    error = UpdaterError(OUTPUT_LOST, reason=os.strerror(lost.errno or 0))
    state = [LazyText(N_("The command completed."))]
    lines = format_error(error, state, session.language, rich=supports_color(sys.stderr))
    session.print_message("\n".join(lines), is_clean=True)
    return int(error.exit_code)


def _get_state_lines(error: UpdaterError, report_state: StateReporter) -> Sequence[LazyText]:
    from ncen_updater.common.cli.usage import SITE_STATE_UNKNOWN

    try:
        return report_state(error)
    except Exception as second:
        logging.getLogger(__name__).debug("state unknown", exc_info=True)
        known = isinstance(second, UpdaterError)
        why = second if known else f"{type(second).__name__}: {second}"
        return [LazyText(SITE_STATE_UNKNOWN, {"why": str(why)})]


def _wrap_unexpected(error: Exception, session: CliSession) -> UnexpectedError:
    name = type(error).__name__
    trace = "".join(traceback.format_exception(error))
    place = traceback.extract_tb(error.__traceback__)[-1:]
    where = "".join(f"{frame.filename}:{frame.lineno}" for frame in place)
    # The full traceback only with --verbose: it may quote a database row.
    detail = trace if session.verbose else f"{sanitize_error(error)} ({where})"
    return UnexpectedError(kind=name, detail=detail)


def _read_early_options(session: CliSession, arguments: Sequence[str]) -> None:
    """Read the options that determine how errors of the command line itself are shown."""
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
    """Configure the log: to the journal under systemd, else to stderr with --verbose."""
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
        # Without a handler Python writes warnings to stderr.
        logging.getLogger().addHandler(logging.NullHandler())


@contextlib.contextmanager
def _handle_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end a command with an exception; commands may replace the handlers."""
    signals, handler = (signal.SIGTERM, signal.SIGHUP), TerminationHandler()
    try:
        before = {number: signal.signal(number, handler) for number in signals}
    except ValueError:  # not in the main thread, as in some tests: leave the handlers unchanged
        before = {}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def get_invoking_user() -> str:
    """Return the user who runs the command; with sudo, the original user."""
    import getpass

    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
