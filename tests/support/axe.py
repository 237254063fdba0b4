"""axe-core, which looks for what keeps people out: from the npm registry, and never kept here."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path

from tests.support.webdriver import Browser

PACKAGE = "axe-core@4.14.1"
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


class AxeUnavailableError(Exception):
    """It cannot be had here; the words say why."""


def axe_source(directory: Path) -> str:
    """Fetch it into a directory; returns the script.

    Raises:
        AxeUnavailableError: If there is no npm, or its registry does not answer.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise AxeUnavailableError("axe-core was not fetched: this machine has no npm")
    try:
        subprocess.run(
            [npm, "pack", "--silent", "--ignore-scripts", PACKAGE], cwd=directory, check=True,
            capture_output=True, timeout=FETCH_S, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (subprocess.SubprocessError, OSError) as error:
        raise AxeUnavailableError(f"{PACKAGE} was not fetched: {error}") from error
    archive = next(directory.glob("axe-core-*.tgz"))
    with tarfile.open(archive) as content:
        member = content.extractfile("package/axe.min.js")
        assert member is not None
        return member.read().decode()


def violations(browser: Browser, source: str) -> list[str]:
    """Return what keeps people out of the page that is shown, each with where."""
    browser.run(source)
    found: list[str] = browser.run_to_end(RUN, TAGS)
    return found
