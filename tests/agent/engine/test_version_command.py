"""Tests of an application whose answer has no version: a command reports the running slot."""

from __future__ import annotations

import http.server
import re
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from packaging.version import Version

from demo.site import DemoSite
from ncen_updater.agent.adapters.databases.base import MigrationSet
from ncen_updater.agent.engine.installed_release import find_mismatch, inspect_installed
from ncen_updater.agent.engine.operations import Operations
from ncen_updater.agent.model.change import StepName, StepPhase
from ncen_updater.agent.model.errors import ChangeFailedError
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import SiteHistory
from ncen_updater.common.messages import (
    HEALTH_ACCESS_DENIED,
    HEALTH_TOKEN_EXPOSED,
    PREFLIGHT_BLOCKED,
)
from ncen_updater.common.progress import SilentProgress
from tests.agent.engine.site_views import latest
from tests.agent.engine.trial_releases import run_text
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


def test_upgrade_and_rollback_use_the_version_command(demo: DemoSite) -> None:
    assert "Status: running" in run_text(demo, "status")
    Operations(site_in_process(demo), SilentProgress()).upgrade(Version(NEW))
    site = site_in_process(demo)
    assert site.slots.read_current() == Version(NEW)
    assert "Status: running" in run_text(demo, "status")
    Operations(site_in_process(demo), SilentProgress()).rollback()
    assert site_in_process(demo).slots.read_current() == Version(OLD)
    kept = [path for path in demo.state.rglob("*") if path.is_file()]
    assert not [path for path in kept if TOKEN.encode() in path.read_bytes()]


def test_wrong_version_of_the_command_lets_no_users_in(demo: DemoSite) -> None:
    """What answers is the new release; who would say so says that the old one runs."""
    text = demo.config_path.read_text()
    line = next(line for line in text.splitlines() if line.startswith("version_command"))
    text = re.sub(r"(?m)^health_timeout_s = .*$", "health_timeout_s = 2", text)
    demo.config_path.write_text(text.replace(line, f'version_command = ["echo", "{OLD}"]'))
    with pytest.raises(ChangeFailedError) as caught:
        Operations(site_in_process(demo), SilentProgress()).upgrade(Version(NEW))
    assert f'\'version\' is "{OLD}", expected "{NEW}"' in str(caught.value)
    assert site_in_process(demo).slots.read_current() == Version(OLD)


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


def test_refused_token_is_found_before_the_downtime(demo: DemoSite) -> None:
    text = demo.config_path.read_text()
    with refusing() as url:
        there = re.sub(r"(?m)^health_url = .*$", f'health_url = "{url}"', text)
        there = re.sub(r"(?m)^health_timeout_s = .*$", "health_timeout_s = 2", there)
        demo.config_path.write_text(there)
        with refused(PREFLIGHT_BLOCKED, match="NU-5094 .*health_token_file"):
            Operations(site_in_process(demo), SilentProgress()).upgrade(Version(NEW))
        told = run_text(demo, "doctor")
    assert "NU-5094" in told and "NU-6310" not in told
    change, facts = latest(demo)
    assert facts.downtime_started is None and not change.is_committed
    assert site_in_process(demo).application.is_running()
    with Journal.open(demo.state / JOURNAL_FILE, read_only=True) as journal:
        assert not SiteHistory(journal).list_bad_releases()
    demo.config_path.write_text(text)
    Operations(site_in_process(demo), SilentProgress()).upgrade(Version(NEW))


@contextmanager
def in_front(demo: DemoSite) -> Iterator[threading.Event]:
    """A web server before the application that takes the token until the event is set."""
    lapsed = threading.Event()
    text = demo.config_path.read_text()
    behind = re.findall(r'(?m)^health_url = "(.*)"$', text)[0]

    class Front(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = 401, b""
            if not lapsed.is_set():
                try:
                    with urllib.request.urlopen(f"{behind}{self.path}") as answer:
                        status, body = answer.status, answer.read()
                except urllib.error.HTTPError as error:
                    status = error.code
                except OSError:
                    status = 502
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Front) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        there = re.sub(r"(?m)^health_url = .*$", f'health_url = "{url}"', text)
        there = re.sub(r"(?m)^health_timeout_s = .*$", "health_timeout_s = 2", there)
        demo.config_path.write_text(there)
        try:
            yield lapsed
        finally:
            server.shutdown()
            thread.join()


def test_token_expiring_in_the_downtime_reverts_without_blame(
    demo: DemoSite,
) -> None:
    with in_front(demo) as lapsed:

        def expire(step: StepName, phase: StepPhase) -> None:
            if (step, phase) == (StepName.STOP, StepPhase.AFTER_RECORD):
                lapsed.set()

        with pytest.raises(ChangeFailedError, match="access denied"):
            Operations(site_in_process(demo), SilentProgress(), checkpoint=expire).upgrade(
                Version(NEW)
            )
        application = site_in_process(demo).application
        assert application.is_running() and not application.is_in_maintenance()
        assert site_in_process(demo).slots.read_current() == Version(OLD)
        with Journal.open(demo.state / JOURNAL_FILE, read_only=True) as journal:
            assert not SiteHistory(journal).list_bad_releases()
        lapsed.clear()
        Operations(site_in_process(demo), SilentProgress()).upgrade(Version(NEW))


def test_token_expiring_during_the_soak_is_no_verdict(demo: DemoSite) -> None:
    with in_front(demo) as lapsed:

        def expire(step: StepName, phase: StepPhase) -> None:
            if (step, phase) == (StepName.MAINTENANCE_OFF, StepPhase.AFTER_RECORD):
                lapsed.set()

        with refused(HEALTH_ACCESS_DENIED):
            Operations(site_in_process(demo), SilentProgress(), checkpoint=expire).upgrade(
                Version(NEW)
            )
        change, facts = latest(demo)
        assert change.is_soaking and facts.soak_error is None
        assert site_in_process(demo).slots.read_current() == Version(NEW)
        with refused(HEALTH_ACCESS_DENIED):
            Operations(site_in_process(demo), SilentProgress()).resume(by_operator=False)
        lapsed.clear()
        Operations(site_in_process(demo), SilentProgress()).resume(by_operator=False)
        change, facts = latest(demo)
        assert not change.state.is_open and not facts.is_soak_failed
        lapsed.set()  # as of a release that locks users out: it is rolled back nevertheless
        with refused(HEALTH_ACCESS_DENIED):  # the older one runs, and cannot be asked either
            Operations(site_in_process(demo), SilentProgress()).rollback()
        site = site_in_process(demo)
        assert site.slots.read_current() == Version(OLD) and latest(demo)[0].is_soaking
        assert site.application.is_running() and not site.application.is_in_maintenance()


def test_token_missing_in_the_downtime_does_not_prolong_it(demo: DemoSite, tmp_path: Path) -> None:
    text = demo.config_path.read_text()
    text = re.sub(r"(?m)^health_timeout_s = .*$", "health_timeout_s = 2", text)
    demo.config_path.write_text(text)

    def lose(step: StepName, phase: StepPhase) -> None:
        if (step, phase) == (StepName.STOP, StepPhase.AFTER_RECORD):
            (tmp_path / "token").unlink()

    with pytest.raises(ChangeFailedError, match="access denied"):
        Operations(site_in_process(demo), SilentProgress(), checkpoint=lose).upgrade(Version(NEW))
    application = site_in_process(demo).application
    assert application.is_running() and not application.is_in_maintenance()
    assert site_in_process(demo).slots.read_current() == Version(OLD)


def test_adopt_names_the_source_of_the_version(demo: DemoSite, tmp_path: Path) -> None:
    site = site_in_process(demo)
    document = site.slots.read_document(Version(OLD))
    nothing = MigrationSet(OLD, tmp_path, {})
    seen = inspect_installed(site, Version(OLD), document.manifest, nothing, "")
    line = f"Version reported by {sys.executable}: {OLD}"
    assert line in [str(one) for one in seen.format_lines(Version(OLD))]
    other = find_mismatch(seen, Version(NEW), confirmed=True)
    assert str(other) == f"NU-6060: {sys.executable} reports version {OLD}, not {NEW}"
    (tmp_path / "token").chmod(0o644)
    with refused(HEALTH_TOKEN_EXPOSED):
        inspect_installed(site, Version(OLD), document.manifest, nothing, "")
