"""axe-core, which finds accessibility violations; downloaded by pip as a wheel, not stored here."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.support.webdriver import Browser

#: The wheel contains axe-core 4.12; the rest of it is not used.
REQUIREMENT = (
    "axe-playwright-python==0.1.8 "
    "--hash=sha256:fdd263c998388f1a8e67cad02677e612d946248bd44d163be5e8650ea31f95f8\n"
)
MEMBER = "axe_playwright_python/axe.min.js"
#: WCAG 2.2 at level AA, which includes the earlier versions and level A.
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
FETCH_S = 120
RUN = """
const done = arguments[arguments.length - 1];
axe.run(document, {runOnly: {type: 'tag', values: arguments[0]}, resultTypes: ['violations']})
  .then(found => done(found.violations.map(one => one.id + ': ' + one.help + ' | '
    + one.nodes.slice(0, 5).map(node => node.html + ' ' + node.failureSummary).join(' | '))))
  .catch(error => done([String(error)]));
"""


@dataclass(frozen=True)
class Axe:
    """Accessibility checker.

    Attributes:
        source: The script; empty if it is unavailable. Then no violation is found.
        reason: Reason for this.
    """

    source: str
    reason: str = ""

    def violations(self, browser: Browser) -> list[str]:
        """Return the accessibility violations of the current page, each with its element."""
        if not self.source:
            return []
        found: list[str] = browser.run_to_end(self.source + RUN, TAGS)  # one script, one page
        return found

    def require(self) -> None:
        """Skip the rest of a test, with the reason, if its pages were checked without axe-core."""
        if not self.source:
            pytest.skip(f"judged without axe-core: {self.reason}")


@cache
def fetch_axe() -> Axe:
    """Download axe-core once per process; the package index may be unreachable."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "axe.txt").write_text(REQUIREMENT)
        command = [
            sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet",
            "--no-deps", "--require-hashes", "--only-binary", ":all:", "--retries", "1",
            "--dest", name, "--requirement", str(directory / "axe.txt"),
        ]  # fmt: skip
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=FETCH_S, check=False,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            return Axe("", str(error))
        if done.returncode != 0:
            return Axe("", (done.stderr.splitlines() or ["pip failed"])[-1])
        with zipfile.ZipFile(next(directory.glob("*.whl"))) as wheel:
            return Axe(wheel.read(MEMBER).decode())
