"""axe-core, which finds accessibility violations: from a wheel, by pip, never stored here."""

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

#: The wheel has axe-core 4.12; the rest of it is not used.
REQUIREMENT = (
    "axe-playwright-python==0.1.8 "
    "--hash=sha256:fdd263c998388f1a8e67cad02677e612d946248bd44d163be5e8650ea31f95f8\n"
)
MEMBER = "axe_playwright_python/axe.min.js"
#: WCAG 2.2 at level AA, and all that it is made of.
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
    """The judge of pages.

    Attributes:
        source: The script; empty where it cannot be had. Nothing is found then.
        reason: Why it cannot be had.
    """

    source: str
    reason: str = ""

    def violations(self, browser: Browser) -> list[str]:
        """Return the accessibility violations of the page that is shown, each with its place."""
        if not self.source:
            return []
        browser.run(self.source)
        found: list[str] = browser.run_to_end(RUN, TAGS)
        return found

    def require(self) -> None:
        """Skip the rest of a test, whose pages were judged without axe-core, with the reason."""
        if not self.source:
            pytest.skip(f"judged without axe-core: {self.reason}")


@cache
def fetch_axe() -> Axe:
    """Download it once a process; the package index may be out of reach."""
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
