"""Make ``site.tar.xz`` with the code of an earlier version, which this file is written for.

    git worktree add /tmp/earlier 8ea3c2e && cd /tmp/earlier && script/bootstrap demo
    PYTHONPATH=. .venv/bin/python THIS_FILE site.tar.xz

A site on SQLite is laid out with 3.2.4 and upgraded to 3.3.0 by the agent of that commit, from a
feed that its publisher signed. Site, feed and keys are kept: today's publisher goes on with the
feed, and today's agent with the site. The keys are of this archive alone, and nothing trusts them;
what they signed lapses after ten years, the longest there is.
"""

# mypy: ignore-errors
from __future__ import annotations

import subprocess
import sys
import tarfile
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from ncen_updater.demo.releases import assemble
from ncen_updater.demo.site import DemoSite, SiteOptions
from ncen_updater.upgrade.journal import Journal
from ncen_updater.upgrade.operations import JOURNAL

from demo.release_flow import publish_release
from ncen_updater.publisher.new.trial import make_feed, make_keys
from tests.support.sites import serve

#: What the test puts its own place in for.
PLACE = "/tmp/nu-earlier-version"
PYTHON = "/nu-earlier-python"
PASSPHRASE = "a long pass phrase"
#: The longest there is.
DAYS = 3_660


def now() -> datetime:
    return datetime.now(UTC)


def made(place: Path) -> None:
    keys = make_keys(place / "keys", PASSPHRASE)
    feed = place / "feed"
    days = dict.fromkeys(("root", "targets", "snapshot", "timestamp", "ncen", "ncen-updater"), DAYS)
    make_feed(feed, keys, now, expiry_days=days)
    with TemporaryDirectory() as sources:
        releases = [assemble(v, Path(sources) / v) for v in ("3.2.4", "3.3.0")]
        publish_release(feed, releases, keys, now)
    with serve(feed) as url:
        options = SiteOptions(
            feed_urls=(url,), cases=10, icomm=False, soak_s=0.2, soak_interval_s=0.1
        )
        with DemoSite(place / "site", None, options) as site:
            site.trusted_root.write_bytes((feed / "metadata/1.root.json").read_bytes())
            Journal.create(site.state / JOURNAL).close()
            site.start_app()
            agent = [sys.executable, "-m", "ncen_updater.cli.agent", "--config"]
            for words in (["check"], ["rehearse"], ["upgrade", "3.3.0", "--yes"]):
                subprocess.run([*agent, str(site.config_path), *words], check=True)
            site.stop_app()
            for path in (site.config_path, site.overlay / "ncen.json"):
                text = path.read_text("utf-8").replace(sys.executable, PYTHON)
                for value, word in (
                    (url, "http://feed.invalid/"),
                    (str(site.app_port), "40001"),
                    (str(site.front_port), "40002"),
                ):
                    text = text.replace(value, word)
                path.write_text(text, "utf-8")


def plain(item: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Leave out whose it was, and the journal's reserve: two megabytes that are made anew."""
    item.uid = item.gid = 0
    item.uname = item.gname = "root"
    return None if item.name.endswith(".reserve") else item


if __name__ == "__main__":
    place = Path(PLACE)
    place.mkdir()
    made(place)
    with tarfile.open(sys.argv[1], "w:xz") as archive:
        archive.add(place, ".", filter=plain)
