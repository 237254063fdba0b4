"""The console of a person, and their browser in it."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.agent.cli.site import CHANGE
from tests.support.forks import DEADLINE_S
from tests.support.webdriver import DESK, Browser, as_user, browser

#: Names the directory into which pictures of pages are put.
PICTURES = "NCEN_TEST_PICTURES"
NARROW, GUIDE, WIDE = 360, 768, DESK
#: A picture in a guide.
MOST_BYTES = 90_000
ROOT = Path(__file__).resolve().parents[2]
#: Every page that stands in the line of pages, and those that hang on one of them.
PAGES = {
    "status": "/", "upgrade": "/upgrade", "approve": "/approve", "live": "/live",
    "history": "/history", "rollback-plan": "/rollback-plan", "audit-log": "/audit-log",
    "sharing": "/sharing", "settings": "/settings", "hold": "/hold",
    "help": "/help", "order": "/jobs/1", "change": f"/history/{CHANGE.id}",
}  # fmt: skip


@contextmanager
def consoled(
    socket: Path, user: str | None = None, *groups: str, language: str = "en"
) -> Iterator[str]:
    """Start the console of a person; yields the link."""
    kept = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
    words = [
        *(as_user(user, *groups, reads_all=True) if user else ()), sys.executable, "-m",
        "ncen_updater.console.local_console",
        "--socket", str(socket), "--language", language, "--zone", "UTC",
        "--json",
    ]  # fmt: skip
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        env={**kept, "PYTHONPATH": str(ROOT)},
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            assert select.select([process.stdout], [], [], DEADLINE_S)[0], "it showed no link"
            yield json.loads(process.stdout.readline())["link"]
        finally:
            process.terminate()


@contextmanager
def entered(
    socket: Path, user: str | None = None, *groups: str, language: str = "en"
) -> Iterator[Browser]:
    """Start the console and the browser of a person, and open the link."""
    with (
        consoled(socket, user, *groups, language=language) as link,
        browser(user, language) as found,
    ):
        found.open(link)
        found.until("the first page", lambda: found.all('body[data-page="status"]'))
        yield found


def origin(person: Browser) -> str:
    """Where the console of a person is."""
    return re.sub(r"(://[^/]+).*", r"\1", person.address)


def settled(person: Browser) -> None:
    """Wait until nothing is being looked at any more; pages that wait load themselves again."""
    person.until("settled", lambda: person.all('main:not([data-state="loading"])'))


def keep(
    person: Browser,
    name: str,
    language: str = "en",
    part: str = "body",
    root: Path | None = None,
    of: str = "console",
) -> None:
    """Take pictures of a page, where the environment names a place for them.

    They begin with a part of the page, and leave out the directory that stands for the root. The
    first one, ``NAME.png`` in English and ``NAME-fr.png`` in French, is what the guides show.
    """
    place = os.environ.get(PICTURES)
    if not place:
        return
    tail = "" if language == "en" else f"-{language}"
    if root is not None:
        person.run(
            """for (const texts = document.createTreeWalker(document.body, 4); texts.nextNode(); )
                texts.currentNode.data = texts.currentNode.data.replaceAll(arguments[0], "")""",
            str(root),
        )
    for width, height, size in (
        (GUIDE, 560, ""),
        (WIDE, 900, f"-{WIDE}"),
        (NARROW, 780, f"-{NARROW}"),
    ):
        person.width(width, height)
        person.run(f"document.querySelector('{part}').scrollIntoView()")
        picture = person.picture()
        assert size or len(picture) < MOST_BYTES, f"the picture of {name} is too large for a guide"
        (Path(place) / f"{of}-{name}{tail}{size}.png").write_bytes(picture)
    person.width(WIDE)
