"""An application whose answer says no version: a command of the site says which slot runs."""

from __future__ import annotations

import http.server
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from packaging.version import Version

from demo.site import DemoSite
from ncen_updater.agent.databases.base import MigrationSet
from ncen_updater.agent.engine.errors import ChangeFailed
from ncen_updater.agent.engine.installed import look_at_installed, objection
from ncen_updater.agent.engine.operations import Operations
from ncen_updater.agent.journal.journal import Journal
from ncen_updater.agent.journal.names import JOURNAL
from ncen_updater.agent.journal.site_history import SiteHistory
from ncen_updater.common.messages import GUARD_BLOCKS, HEALTH_TOKEN_EXPOSED
from ncen_updater.common.progress import Silent
from tests.agent.engine.looks import latest
from tests.agent.engine.made import said
from tests.support.errors import refused
from tests.support.sites import running_site, site_in_process

OLD, NEW = "3.2.4", "3.3.0"
#: Looks at the process, as the site's own command would: its words name the program's slot.
LOOK = """
import pathlib, sys
run, slots = map(pathlib.Path, sys.argv[1:])
words = pathlib.Path("/proc", (run / "ncen.pid").read_text().split()[0], "cmdline").read_bytes()
(program,) = [word for word in words.decode().split("\\0") if word.startswith(str(slots))]
print(pathlib.Path(program).relative_to(slots).parts[0])
"""
TOKEN = "geheim-und-lang"


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[DemoSite]:
    token = tmp_path / "token"
    token.write_text(f"{TOKEN}\n")
    token.chmod(0o600)
    with running_site(OLD, NEW) as site:
        (tmp_path / "look.py").write_text(LOOK)
        words = [sys.executable, str(tmp_path / "look.py"), str(site.run), str(site.slots)]
        command = ", ".join(f'"{word}"' for word in words)
        _set(site, f'version_command = [{command}]\nhealth_token_file = "{token}"')
        yield site


def _set(demo: DemoSite, lines: str) -> None:
    text = demo.config_path.read_text()
    taken = "schema_field", "write_probe_field"
    kept = [line for line in text.splitlines() if not line.startswith(taken)]
    demo.config_path.write_text("\n".join(kept).replace("[application]", f"[application]\n{lines}"))


def test_there_and_back(demo: DemoSite) -> None:
    assert "Officers can work" in said(demo, "status")
    Operations(site_in_process(demo), Silent()).upgrade(Version(NEW))
    site = site_in_process(demo)
    assert site.slots.current() == Version(NEW)
    assert "Officers can work" in said(demo, "status")
    Operations(site_in_process(demo), Silent()).rollback()
    assert site_in_process(demo).slots.current() == Version(OLD)
    kept = [path for path in demo.state.rglob("*") if path.is_file()]
    assert not [path for path in kept if TOKEN.encode() in path.read_bytes()]


def test_a_command_that_says_another_version_lets_nobody_in(demo: DemoSite) -> None:
    """What answers is the new release; who would say so says that the old one runs."""
    text = demo.config_path.read_text()
    line = next(line for line in text.splitlines() if line.startswith("version_command"))
    text = re.sub(r"(?m)^health_timeout_s = .*$", "health_timeout_s = 2", text)
    demo.config_path.write_text(text.replace(line, f'version_command = ["echo", "{OLD}"]'))
    with pytest.raises(ChangeFailed) as caught:
        Operations(site_in_process(demo), Silent()).upgrade(Version(NEW))
    assert f'\'version\' is "{OLD}", expected "{NEW}"' in str(caught.value)
    assert site_in_process(demo).slots.current() == Version(OLD)


class Refuses(http.server.BaseHTTPRequestHandler):
    """In place of an application that no longer takes the token."""

    def do_GET(self) -> None:
        self.send_response(401)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def refusing() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refuses) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_token_that_is_refused_is_found_before_anybody_is_out(demo: DemoSite) -> None:
    text = demo.config_path.read_text()
    with refusing() as url:
        there = re.sub(r"(?m)^health_url = .*$", f'health_url = "{url}"', text)
        there = re.sub(r"(?m)^health_timeout_s = .*$", "health_timeout_s = 2", there)
        demo.config_path.write_text(there)
        with refused(GUARD_BLOCKS, match="NU-5094 .*health_token_file"):
            Operations(site_in_process(demo), Silent()).upgrade(Version(NEW))
        told = said(demo, "doctor")
    assert "NU-5094" in told and "NU-6310" not in told
    change, facts = latest(demo)
    assert facts.closed_at is None and not change.commit_written
    assert site_in_process(demo).application.running()
    with Journal.open(demo.state / JOURNAL, read_only=True) as journal:
        assert not SiteHistory(journal).bad_releases()
    demo.config_path.write_text(text)
    Operations(site_in_process(demo), Silent()).upgrade(Version(NEW))


def test_adopt_says_who_said_it(demo: DemoSite, tmp_path: Path) -> None:
    site = site_in_process(demo)
    document = site.slots.document(Version(OLD))
    nothing = MigrationSet(OLD, tmp_path, {})
    seen = look_at_installed(site, Version(OLD), document.manifest, nothing, "")
    line = f"By {sys.executable} it is {OLD}; the application itself does not say it."
    assert line in [str(one) for one in seen.lines(Version(OLD))]
    other = objection(seen, Version(NEW), vouched=True)
    assert str(other) == f"NU-6060: {sys.executable} says that {OLD} runs here, not {NEW}."
    (tmp_path / "token").chmod(0o644)
    with refused(HEALTH_TOKEN_EXPOSED):
        look_at_installed(site, Version(OLD), document.manifest, nothing, "")
