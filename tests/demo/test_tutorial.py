"""The first tutorial, typed as it stands at the site that the demonstration leaves."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from demo.show.commands import ended
from tests.demo.test_show import DEMO, processes_with
from tests.support.forks import DEADLINE_S

PAGE = Path(__file__).parents[2] / "docs/tutorials/first-upgrade.md"
#: Commands that ask; a reader answers at a terminal.
ASKS = re.compile(r"^ncen-updater (?:approve|upgrade|rollback)(?! --dry-run)|^ncen-publisher sign")
#: Exit codes that the page names, by the beginning of the line; 0 otherwise.
CODES = {"ncen-updater upgrade 3.3.2": {11}, "timeout": {0, 137}, "ncen-updater resume": {0, 11}}


def find_lines() -> list[str]:
    """Return the lines that the page lets users type at the site."""
    text = PAGE.read_text("utf-8").partition("## Inspect the site")[2]
    return re.findall(r"(?m)^ {4}((?:ncen|timeout).*)$", text)


class Reader:
    """Types the lines of the page.

    Args:
        place: The directory of the demonstration.
    """

    def __init__(self, place: Path) -> None:
        self._place = place
        self._words = ""
        program = Path(sys.executable).parent
        self._environment = {
            **os.environ,
            "PATH": f"{program}:{os.environ['PATH']}",
            "NCEN_CONFIG_FILE": str(place / "site/etc/ncen-updater/agent.toml"),
        }

    def type(self, line: str, codes: set[int]) -> str:
        """Type a line; return its output."""
        typed = f"{line} --yes" if ASKS.search(line) else line
        if line.startswith("ncen-publisher sign"):
            typed += f' --digest "{self._words}"'
        # A file and no pipe: the application, which a killed upgrade leaves running, would hold it.
        with tempfile.TemporaryFile("w+") as output:
            code = subprocess.run(
                typed, shell=True, cwd=self._place, env=self._environment, stdout=output,
                stderr=subprocess.STDOUT, timeout=DEADLINE_S, check=False,
            ).returncode  # fmt: skip
            output.seek(0)
            said = output.read()
        assert code in codes, f"{typed}\n{said}"
        if line.startswith("ncen-publisher show"):
            self._words = said.strip().rpartition(": ")[2]
        return said

    def read(self) -> None:
        """Type the whole page, and the two lines that it has repeated."""
        lines = find_lines()
        assert len(lines) > 20
        repeated = [line for line in lines if "amina.pem" in line or "publish feed" in line]
        for line in lines[:-1]:
            codes = next((found for start, found in CODES.items() if line.startswith(start)), {0})
            self.type(line, {4} if line == repeated[1] else codes)
        for line in repeated:
            self.type(line.replace("amina", "bo"), {0})
        assert lines[-1] == "ncen-updater check"
        found = json.loads(self.type("ncen-updater --json --quiet check", {0}))
        rejected = {item["version"]: item["reason"] for item in found["rejected"]}
        assert found["running_withdrawn"] or rejected["3.3.0"] == "withdrawn"


def test_tutorial_works_as_written(tmp_path: Path) -> None:
    place = tmp_path / "first"
    terminal, end = pty.openpty()
    with subprocess.Popen(
        [*DEMO, "--quick", "--sqlite", "--cases", "60", "--keep", str(place)],
        stdin=end, stdout=subprocess.PIPE, text=True,
    ) as process, ended(process):  # fmt: skip
        assert process.stdout is not None
        said = ""
        while "Press Enter" not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        Reader(place).read()
        os.write(terminal, b"\n")
        assert process.wait(DEADLINE_S) == 0, said
    os.close(terminal)
    os.close(end)
    assert processes_with(str(place)) == []
