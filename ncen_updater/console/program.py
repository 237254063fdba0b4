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

from ncen_updater.common.cli.characters import fitted, shown
from ncen_updater.common.cli.render import error_lines
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, Text, right_to_left
from ncen_updater.common.messages import CONSOLE_BLIND
from ncen_updater.console.app import ConsoleApplication
from ncen_updater.console.entrances import LinkEntrance
from ncen_updater.console.inside import Inside
from ncen_updater.console.server import ADDRESS, serving, tells_owners
from ncen_updater.console.service import SiteService
from ncen_updater.console.sessions import KEY_S, Keys

UNCHANGED = Text(N_("Nothing was changed."))
ENDS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


class TerminalLines:
    """Writes to the terminal, or for a program."""

    def __init__(self, language: str, *, as_json: bool) -> None:
        self.language, self.as_json = language, as_json

    def line(self, text: Text) -> None:
        """Say one line."""
        words = shown(text.render(self.language), turned=right_to_left(self.language))
        print(fitted(words, sys.stdout.encoding or "utf-8"), flush=True)  # noqa: T201

    def link(self, key: str, port: int) -> None:
        """Show a link, and how a browser elsewhere reaches it."""
        link = f"http://{ADDRESS}:{port}/enter?key={key}"
        if self.as_json:
            document = {"link": link, "port": port, "valid_s": int(KEY_S)}
            print(json.dumps(document), flush=True)  # noqa: T201
            return
        seconds = {"seconds": str(int(KEY_S))}
        self.line(Text(N_("Open this link within {seconds} seconds; it is good once:"), seconds))
        self.line(Text("  {link}", {"link": link}))

    def way(self, port: int) -> None:
        """Say how a browser elsewhere comes here, once."""
        if self.as_json:
            return
        place = f"{ADDRESS}:{port}"
        where = f"-N -o ExitOnForwardFailure=yes -L {place}:{place} {_myself()}"
        self.line(
            Text(N_("If the browser is on another machine, type there first: ssh {where}"),
                 {"where": where})
        )  # fmt: skip
        self.line(Text(N_("Enter shows a new link. Ctrl-C, or the end of this terminal, ends it.")))


def _myself() -> str:
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
    said = TerminalLines(given.language, as_json=given.json)
    try:
        _run(given, said)
    except UpdaterError as error:
        print("\n".join(error_lines(error, [UNCHANGED], given.language)), file=sys.stderr)  # noqa: T201
        return int(error.exit_code)
    return 0


def _run(given: argparse.Namespace, said: TerminalLines) -> None:
    """Serve until somebody or something ends it.

    Raises:
        UpdaterError: If it cannot begin.
    """
    if not tells_owners():
        raise UpdaterError(CONSOLE_BLIND)
    ended, ends = os.pipe()
    os.set_blocking(ends, False)
    # Written by the handler below Python's own: one that comes just before the wait wakes it, too.
    signal.set_wakeup_fd(ends, warn_on_full_buffer=False)
    for number in ENDS:
        signal.signal(number, lambda *_: None)
    keys = Keys()
    zone = ZoneInfo(given.zone) if given.zone else None
    inside = Inside(SiteService(given.socket), lasting=True)
    application = ConsoleApplication(LinkEntrance(keys, inside), zone, given.language)
    with serving(given.port, application) as port:
        try:
            said.link(keys.issue(), port)
            said.way(port)
            while _asked_again(ended):
                said.link(keys.issue(), port)
        finally:
            application.end()


def _asked_again(ended: int) -> bool:
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
