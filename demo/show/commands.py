"""Runner of the two real programs, as an operator or signer types them, with their output."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import AnyStr

from demo.show.narrator import Narrator
from demo.starting import held
from ncen_updater.common.i18n import N_, LazyText

PROGRAMS: Mapping[str, str] = {
    "ncen-updater": "from ncen_updater.agent.cli.main import main; main()",
    "ncen-publisher": "from ncen_updater.publisher.cli.main import main; main()",
}
PATIENCE_S = 30.0
LIMIT_S = 600.0
AT_WORK = LazyText(N_("running"))


@dataclass(frozen=True)
class Ran:
    """Result of a command.

    Attributes:
        status: Exit status; negative for a signal.
        output: Its output; empty if it wrote directly to the terminal.
    """

    status: int
    output: str = ""


class Commands:
    """Runs the programs in one directory.

    Args:
        narrator: Shows command lines and output.
        directory: Working directory of the commands.
        config: The site's configuration file, for the agent.
    """

    def __init__(self, narrator: Narrator, directory: Path, config: Path) -> None:
        self._narrator = narrator
        self._directory = directory
        self._environment = {**os.environ, "NCEN_CONFIG_FILE": str(config)}

    def run(self, *words: str, limit: int | None = None) -> Ran:
        """Run a command, then show its output.

        Args:
            words: Program and arguments.
            limit: Maximum number of lines shown.
        """
        self._narrator.command(words)
        with self._narrator.working() as progress:
            if self._narrator.rich:
                progress.report(AT_WORK)
            with self.started(*words) as process:
                output, _ = process.communicate(timeout=LIMIT_S)
        self._narrator.output(output.decode(errors="replace"), limit)
        return Ran(process.returncode, output.decode(errors="replace"))

    def watch(self, *words: str) -> Ran:
        """Run a command and show its progress while it runs."""
        self._narrator.command(words)
        with self.started(*words, piped=False) as process:
            return Ran(process.wait(LIMIT_S))

    @contextmanager
    def started(self, *words: str, piped: bool = True) -> Iterator[subprocess.Popen[bytes]]:
        """Run a command during the block; it is ended with the block."""
        out = subprocess.PIPE if piped else self._narrator.stream.fileno()
        with contextlib.ExitStack() as stack:
            with held():
                process = subprocess.Popen(
                    [sys.executable, "-c", PROGRAMS[words[0]], *words[1:], *self._language()],
                    cwd=self._directory,
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    # Ctrl-C is for the demonstration, which then ends this command.
                    start_new_session=True,
                )
                stack.enter_context(ended(process))
            yield process

    def _language(self) -> Sequence[str]:
        return ("--lang", self._narrator.language)


@contextmanager
def ended(process: subprocess.Popen[AnyStr]) -> Iterator[subprocess.Popen[AnyStr]]:
    """End a process after the block, if necessary with SIGKILL."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if process.stdout is not None:
            process.stdout.close()
