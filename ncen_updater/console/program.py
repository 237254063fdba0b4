"""The process: it listens, shows a link, and ends with its terminal."""

from __future__ import annotations

import argparse
import getpass
import json
import logging
import os
import select
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from zoneinfo import ZoneInfo

from ncen_updater.common.cli.characters import fit_encoding, prepare_for_terminal
from ncen_updater.common.cli.render import format_error
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText, is_right_to_left
from ncen_updater.common.messages import CONSOLE_PEER_UNKNOWN
from ncen_updater.console.app import ConsoleApplication
from ncen_updater.console.authentication import LinkAuthBackend
from ncen_updater.console.inside import UserContext
from ncen_updater.console.loopback_server import LOOPBACK_ADDRESS, can_find_owner, serve_on_loopback
from ncen_updater.console.service_client import ServiceClient
from ncen_updater.console.sessions import KEY_LIFETIME_S, LoginKeys

NOTHING_CHANGED = LazyText(N_("Nothing was changed."))
END_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


class TerminalOutput:
    """Writes to the terminal, or for a program."""

    def __init__(self, language: str, *, as_json: bool) -> None:
        self.language, self.as_json = language, as_json

    def write_line(self, text: LazyText) -> None:
        """Say one line."""
        words = prepare_for_terminal(
            text.render(self.language), right_to_left=is_right_to_left(self.language)
        )
        print(fit_encoding(words, sys.stdout.encoding or "utf-8"), flush=True)  # noqa: T201

    def show_link(self, key: str, port: int) -> None:
        """Show a link, and how a browser elsewhere reaches it."""
        link = f"http://{LOOPBACK_ADDRESS}:{port}/enter?key={key}"
        if self.as_json:
            document = {"link": link, "port": port, "valid_s": int(KEY_LIFETIME_S)}
            print(json.dumps(document), flush=True)  # noqa: T201
            return
        seconds = {"seconds": str(int(KEY_LIFETIME_S))}
        self.write_line(LazyText(N_("Open this one-time link within {seconds} seconds:"), seconds))
        self.write_line(LazyText("  {link}", {"link": link}))

    def show_ssh_hint(self, port: int) -> None:
        """Say how a browser elsewhere comes here, once."""
        if self.as_json:
            return
        place = f"{LOOPBACK_ADDRESS}:{port}"
        where = f"-N -o ExitOnForwardFailure=yes -L {place}:{place} {_build_ssh_destination()}"
        self.write_line(
            LazyText(N_("If the browser is on another machine, run there first: ssh {where}"),
                 {"where": where})
        )  # fmt: skip
        self.write_line(LazyText(N_("Press Enter for a new link, Ctrl-C to stop.")))


def _build_ssh_destination() -> str:
    """Who and where this is, as SSH has it."""
    try:
        name = os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # a number that has no name here
        name = "USER"
    return f"{name}@{socket.gethostname()}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Be the console until its terminal ends; returns the exit status."""
    parser = argparse.ArgumentParser(prog="ncen_updater.console", allow_abbrev=False)
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--language", default="en")
    parser.add_argument("--zone")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    value = TerminalOutput(given.language, as_json=given.json)
    try:
        _serve(given, value)
    except UpdaterError as error:
        print("\n".join(format_error(error, [NOTHING_CHANGED], given.language)), file=sys.stderr)  # noqa: T201
        return int(error.exit_code)
    return 0


def _serve(options: argparse.Namespace, output: TerminalOutput) -> None:
    """Serve until somebody or something ends it.

    Raises:
        UpdaterError: If it cannot begin.
    """
    if not can_find_owner():
        raise UpdaterError(CONSOLE_PEER_UNKNOWN)
    ended, ends = os.pipe()
    os.set_blocking(ends, False)
    # Written by the handler below Python's own: one that comes just before the wait wakes it, too.
    signal.set_wakeup_fd(ends, warn_on_full_buffer=False)
    for number in END_SIGNALS:
        signal.signal(number, lambda *_: None)
    keys = LoginKeys()
    zone = ZoneInfo(options.zone) if options.zone else None
    inside = UserContext(ServiceClient(options.socket), persistent=True)
    application = ConsoleApplication(LinkAuthBackend(keys, inside), zone, options.language)
    with serve_on_loopback(options.port, application) as port:
        try:
            output.show_link(keys.issue_key(), port)
            output.show_ssh_hint(port)
            while _wait_for_enter(ended):
                output.show_link(keys.issue_key(), port)
        finally:
            application.close()


def _wait_for_enter(ended: int) -> bool:
    """Wait for Enter; False once the console is to end.

    Without a terminal nobody is heard: then signals alone end it, and the end of what is read.
    """
    terminal = sys.stdin.fileno()
    ready, _, _ = select.select([ended, terminal], [], [])
    if ended in ready:
        return False
    try:
        return bool(os.read(terminal, 4096))
    except OSError:  # the terminal has gone
        return False
