"""A stand-in site that runs, a feed over HTTP, and the real program against both."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from demo.site import DemoSite, SiteOptions, digests, version_of
from tests.support.forks import run_agent
from tests.support.sites import TrialFeed, serve

PROGRAM = (sys.executable, "-m", "ncen_updater.agent.cli.main")


@dataclass(frozen=True)
class LiveSite:
    """A site under trial."""

    demo: DemoSite
    feed: Path

    def config(self) -> str:
        """Text of the configuration."""
        return self.demo.config_path.read_text("utf-8")

    def environment(self, **more: str) -> dict[str, str]:
        kept = {
            key: value
            for key, value in os.environ.items()
            if key in ("PATH", "HOME") or key.startswith("COVERAGE_")
        }
        config = str(self.demo.config_path)
        return {**kept, "NCEN_CONFIG_FILE": config, "LANG": "C.UTF-8", "TERM": "xterm", **more}

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command with no terminal, to its end."""
        return run_agent(*arguments, environment=self.environment(**environment))

    @contextmanager
    def started(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """Start a command; it is killed if the test leaves it."""
        process = subprocess.Popen(
            [*PROGRAM, *arguments],
            env=self.environment(), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        with process:
            try:
                yield process
            finally:
                process.kill()

    def facts(self) -> tuple[str | None, dict[str, str]]:
        """The one version that everything is of, None for a mixture, and the data."""
        return version_of(self.demo).whole, digests(self.demo)


def wait_for(process: subprocess.Popen[str], words: str) -> None:
    """Read progress until a line has these words."""
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return
    raise AssertionError(f"ended without saying {words!r}")


@contextmanager
def live_site(directory: Path, versions: Sequence[str], soak_s: float) -> Iterator[LiveSite]:
    """Lay out a site that is not adopted, and start it."""
    feed = TrialFeed(directory)
    feed.publish(versions)
    with ExitStack() as stack:
        url = stack.enter_context(serve(feed.directory))
        options = SiteOptions(feed_urls=(url,), cases=20, icomm=False, soak_s=soak_s)
        demo = stack.enter_context(DemoSite(directory / "site", None, options))
        shutil.copyfile(feed.root, demo.trusted_root)
        demo.start_app()
        yield LiveSite(demo, feed.directory)
