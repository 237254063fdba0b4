"""The story of ``test_browser_story.py`` at three terminals, counted as that one is."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from demo.site import version_of
from tests.agent.cli.terminal_run import run_on_terminal
from tests.console.test_browser_story import (
    FIRST,
    OPERATOR,
    READERS,
    SECOND,
    require_counted,
    story_site,
)
from tests.support.attention import Attention
from tests.support.service_process import ROOT, Served
from tests.support.webdriver import as_user

QUESTION = "yes to confirm"


@pytest.fixture
def service() -> Iterator[Served]:
    with story_site() as process:
        process.demo.config_path.chmod(0o644)  # what an installation lets the group read
        yield process


@dataclass
class Typist:
    """A user at a terminal of the server."""

    service: Served
    user: str
    attention: Attention = field(default_factory=Attention)

    def types(self, line: str, *, agrees: bool = False) -> tuple[int, str]:
        """Type a command of ours, answer its question, and wait for its end."""
        program, *words = line.split()
        assert program == "ncen-updater"
        self.attention.typed(line)
        if agrees:
            self.attention.answered("yes")
        config = str(self.service.config)
        command = [
            *as_user(self.user, READERS, reads_all=True), sys.executable, "-m",
            "ncen_updater.agent.cli.main", "--config", config, *words,
        ]  # fmt: skip
        kept = {key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ}
        environment = {
            **kept, "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8", "TERM": "dumb", "NO_COLOR": "1",
        }  # fmt: skip
        return run_on_terminal(command, environment, {QUESTION: "yes"} if agrees else None)

    def does(self, line: str, *, agrees: bool = False) -> str:
        """Type a command that comes to a good end."""
        code, shown = self.types(line, agrees=agrees)
        assert code == 0, shown
        assert (QUESTION in shown) is agrees, shown
        return shown


def test_release_is_installed_and_rolled_back_by_terminals_alone(service: Served) -> None:
    operator, first, second = (Typist(service, user) for user in (OPERATOR, FIRST, SECOND))
    service.until_next_upgrade(lambda next_upgrade: next_upgrade["target"] is not None)
    operator.does("ncen-updater plan")
    operator.does("ncen-updater rehearse")
    service.until_next_upgrade(lambda next_upgrade: next_upgrade["binding"] is not None)
    first.does("ncen-updater approve", agrees=True)
    second.does("ncen-updater approve", agrees=True)
    # The upgrade; all that does it is killed in the middle.
    with ThreadPoolExecutor(1) as pool:
        cut = pool.submit(operator.types, "ncen-updater upgrade", agrees=True)
        service.until("step-intended", step="migrate")
        service.kill_all()
        first.types("ncen-updater status")
        service.start()
        service.until("change-reverted")
        cut.result()
    assert version_of(service.demo).whole == "3.2.4"
    service.until_next_upgrade(lambda next_upgrade: next_upgrade["binding"] is not None)
    for person in (first, second):
        person.does("ncen-updater approve", agrees=True)
    operator.does("ncen-updater upgrade", agrees=True)
    assert version_of(service.demo).whole == "3.3.0"
    first.does("ncen-updater status")
    second.does("ncen-updater history")
    for change in service.client.get("/v1/history")["changes"]:
        second.does(f"ncen-updater history {change['id']}")
    for person in (first, second):
        person.does("ncen-updater approve --rollback", agrees=True)
    operator.does("ncen-updater rollback", agrees=True)
    assert version_of(service.demo).whole == "3.2.4"
    require_counted(
        "terminal",
        {
            "who operates": operator.attention,
            "the first to approve": first.attention,
            "the second": second.attention,
        },
    )
