"""Tests of the check that the front end keeps users out: real servers, a real upgrade."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from demo.site import DemoSite, SiteOptions, version_of
from ncen_updater.agent.adapters.application.base import check_maintenance_page
from ncen_updater.agent.config.agent_config import ApplicationSettings
from ncen_updater.agent.engine.operations import Operations
from ncen_updater.agent.model.errors import ChangeFailedError
from ncen_updater.common.progress import SilentProgress
from tests.support.sites import TrialFeed, connect, serve, site_in_process

OLD, NEW = "3.2.4", "3.3.0"


@contextlib.contextmanager
def front(door: Path, away: int = 503, after: int = 0) -> Iterator[tuple[str, list[str]]]:
    """Run a web server that looks for the maintenance file at each request; yield its address.

    Args:
        door: The maintenance file that it checks.
        away: Its answer while the file is there.
        after: So many requests it remembers that the file was not there.
    """
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            closed = door.exists() and len(asked) > after
            self.send_response(away if closed else 200)
            if closed and away == 302:
                self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", asked
        finally:
            server.shutdown()
            thread.join()


def settings(url: str | None, door: Path) -> ApplicationSettings:
    return ApplicationSettings(
        unit="x.service", health_url="http://127.0.0.1:1", maintenance_file=door, public_url=url,
        probe_timeout_s=0.3, environment={},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("away", "after", "there", "said"),
    [
        (503, 0, True, None),
        (503, 2, True, None),  # it remembers for a moment
        (503, 0, False, "status 200"),  # it looks for another file
        (302, 0, True, "status 302"),
        (404, 0, True, "status 404"),
    ],
)
def test_front_end_answer_is_checked(
    tmp_path: Path, away: int, after: int, there: bool, said: str | None
) -> None:
    door = tmp_path / "door"
    if there:
        door.touch()
    with front(door, away, after) as (url, asked):
        problem = check_maintenance_page(settings(f"{url}/ncen/", door))
    assert (problem is None) if said is None else (said in str(problem))
    assert set(asked) == {"/ncen/"}, "a redirection is not followed"


def test_unreachable_front_end_is_reported_and_none_is_skipped(tmp_path: Path) -> None:
    with front(tmp_path / "door") as (url, _):
        pass
    assert "no response" in str(check_maintenance_page(settings(url, tmp_path / "door")))
    assert check_maintenance_page(settings(None, tmp_path / "door")) is None


@pytest.fixture
def demo() -> Iterator[DemoSite]:
    with tempfile.TemporaryDirectory(prefix="nu-front-") as directory:
        feed = TrialFeed(Path(directory))
        feed.publish([OLD, NEW])
        with serve(feed.directory) as url:
            options = SiteOptions(
                feed_urls=(url,), cases=10, icomm=False, soak_s=0.2, soak_interval_s=0.1
            )
            with DemoSite(Path(directory) / "site", None, options) as site:
                connect(site, feed)
                site.start_app()
                yield site


def test_upgrade_is_reverted_when_the_front_end_lets_users_in(demo: DemoSite) -> None:
    """Seen: users wrote before the commit, and an undo throws that away."""
    config = site_in_process(demo).config.application
    text = demo.config_path.read_text()
    for door, arrives in (
        (demo.config_path.parent / "another", OLD),
        (config.maintenance_file, NEW),
    ):
        with front(door) as (url, asked):
            said = f'[application]\npublic_url = "{url}/"\nprobe_timeout_s = 2\n'
            lines = [line for line in text.splitlines() if "probe_timeout_s" not in line]
            changed = "\n".join(lines).replace("[application]\n", said)
            demo.config_path.write_text(changed)
            operations = Operations(site_in_process(demo), SilentProgress())
            if arrives == OLD:
                with pytest.raises(ChangeFailedError) as caught:
                    operations.upgrade()
                assert "NU-5011" in f"{caught.value} {caught.value.__cause__}"
            else:
                operations.upgrade()
            assert asked
        assert version_of(demo).code == arrives
        assert not config.maintenance_file.exists()
    # The front end is down now: it admits no users, and does not block the rollback.
    Operations(site_in_process(demo), SilentProgress()).rollback()
    assert version_of(demo).code == OLD
