"""Tests of both programs, from a bundle to an upgrade and rollback, offline."""

from __future__ import annotations

import json
import os
import pwd
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.site import DemoSite, SiteOptions
from ncen_updater.agent.adapters.feed_reader.import_and_mirror import HANDLERS
from ncen_updater.agent.adapters.feed_reader.worker_source import WorkerReleaseSource
from ncen_updater.agent.config.loader import load_config
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import MIRROR_FORBIDDEN
from ncen_updater.common.progress import SilentProgress
from tests.agent.cli.live import LiveSite
from tests.formats.bundle.forging import add, odd
from tests.support.forks import run_publisher
from tests.support.sites import TrialFeed


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> TrialFeed:
    feed = TrialFeed(tmp_path_factory.mktemp("airgap"))
    feed.publish(["3.2.4", "3.3.0"])
    return feed


@pytest.fixture
def live(tmp_path: Path, feed: TrialFeed) -> Iterator[LiveSite]:
    """A site that is neither adopted nor running; its feed is unreachable."""
    options = SiteOptions(cases=20, icomm=False, soak_s=0.5)
    with DemoSite(tmp_path / "site", None, options) as demo:
        shutil.copyfile(feed.root, demo.trusted_root)
        yield LiveSite(demo, feed.directory)


def export(feed: TrialFeed, output: Path, *more: str) -> dict[str, object]:
    arguments = ("--for-site", "MU/mu-national", "--from", "3.2.4", "--output", str(output))
    done = run_publisher("export", str(feed.directory), *arguments, *more, "--json")
    assert done.returncode == 0, done.stderr
    report: dict[str, object] = json.loads(done.stdout)
    return report


def records_of(live: LiveSite) -> dict[str, str]:
    """Digests of what signers entered; the agent's and the application's own notes left out."""
    return {name: text for name, text in live.facts()[1].items() if ".ncen_" not in name}


def test_site_is_adopted_upgraded_and_rolled_back_offline(
    live: LiveSite, feed: TrialFeed, tmp_path: Path
) -> None:
    live.demo.start_app()
    bundle = str(export(feed, tmp_path / "mu.ncen", "--with-origin")["file"])
    assert live.run("adopt", "3.2.4").returncode == 7
    done = live.run("import", bundle, "--lang", "fr")
    assert done.returncode == 0, done.stderr
    assert "3.3.0" in done.stdout
    assert "du paquet hors ligne" in done.stderr
    assert "Télécharge" not in done.stderr
    assert live.run("adopt", "3.2.4").returncode == 0
    dry = live.run("import", bundle, "--dry-run", "--json")
    assert json.loads(dry.stdout)["imported"] is False
    checked = live.run("check")
    assert checked.returncode == 0, checked.stderr
    assert "Feed unreachable." in checked.stdout
    records = records_of(live)
    upgraded = live.run("upgrade", "--yes")
    assert upgraded.returncode == 0, upgraded.stderr
    assert live.facts()[0] == "3.3.0"
    back = live.run("rollback", "--yes")
    assert back.returncode == 0, back.stderr
    assert live.facts()[0] == "3.2.4"
    assert records_of(live) == records


def test_incomplete_bundle_is_reported_at_an_offline_site(
    live: LiveSite, feed: TrialFeed, tmp_path: Path
) -> None:
    config = live.demo.config_path
    config.write_text(config.read_text().replace("[feed]", "[feed]\noffline = true"))
    nothing = live.run("adopt", "3.2.4", "--json")
    assert json.loads(nothing.stdout)["error"]["code"] == "NU-2320"
    export(feed, tmp_path / "later.ncen")
    assert live.run("import", str(tmp_path / "later.ncen")).returncode == 0
    lacking = live.run("adopt", "3.2.4", "--json")
    assert json.loads(lacking.stdout)["error"]["code"] == "NU-2319"


def test_rejected_import_is_in_the_history(live: LiveSite, feed: TrialFeed, tmp_path: Path) -> None:
    Journal.create(live.demo.state / JOURNAL_FILE).close()
    bad = tmp_path / "bad.ncen"
    export(feed, bad)
    bad.write_bytes(bad.read_bytes()[:-100])
    refused = live.run("import", str(bad), "--json")
    assert refused.returncode == 6
    assert json.loads(refused.stdout)["error"]["code"] == "NU-2303"
    with Journal.open(live.demo.state / JOURNAL_FILE, read_only=True) as journal:
        kinds = [event.kind for event in journal.list_events()][-2:]
        code = journal.list_events()[-1].data["code"]
    assert kinds == ["import-started", "import-rejected"]
    assert code == "NU-2303"
    assert "bad.ncen" in live.run("history").stdout


def test_rejection_is_in_the_language_of_the_operator(live: LiveSite, tmp_path: Path) -> None:
    bad = odd(tmp_path / "bad.ncen", {}, add("targets/x", compressed=True))
    refused = live.run("import", str(bad), "--lang", "fr")
    assert "compressé" in refused.stderr


def test_mirror_command_works(live: LiveSite, feed: TrialFeed, tmp_path: Path) -> None:
    export(feed, tmp_path / "mu.ncen", "--with-origin")
    served = tmp_path / "www"
    order = ("mirror", str(served), "--from-bundle", str(tmp_path / "mu.ncen"), "--json")
    dry = live.run(*order, "--dry-run")
    assert json.loads(dry.stdout)["changed"] is False
    assert not served.exists()
    made = live.run(*order)
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["releases"]["ncen"] == ["3.2.4", "3.3.0"]
    # Without a feed there is nothing else to copy, whatever was imported here.
    live.demo.configure({"feed": {"offline": True}})
    refused = live.run("mirror", str(served), "--json")
    assert (refused.returncode, json.loads(refused.stdout)["error"]["code"]) == (7, "NU-2325")


def test_mirror_of_an_old_bundle_is_not_reported_as_an_attack(
    live: LiveSite, tmp_path: Path
) -> None:
    """Seen: "have this server examined", of a stick that somebody had kept."""
    growing, old, new = TrialFeed(tmp_path / "own"), tmp_path / "old.ncen", tmp_path / "new.ncen"
    growing.publish(["3.2.4", "3.3.0"])
    export(growing, old)
    growing.publish(["3.3.1"])
    export(growing, new)
    shutil.copyfile(growing.root, live.demo.trusted_root)
    assert live.run("import", str(new)).returncode == 0
    made = live.run("mirror", str(tmp_path / "www"), "--from-bundle", str(old), "--json")
    assert json.loads(made.stdout)["error"]["code"] == "NU-2327"
    assert made.returncode == 6


def test_agent_opens_files_with_the_rights_of_the_caller(
    live: LiveSite, feed: TrialFeed, tmp_path: Path
) -> None:
    """A stick may be readable by its owner alone; the process that reads it has few rights.

    The name leads to the file in this process only: a child that went by it would find nothing.
    """
    export(feed, tmp_path / "mu.ncen")
    config = live.demo.config_path
    descriptor = os.open(tmp_path / "mu.ncen", os.O_RDONLY)
    try:
        order = {
            "act": "import", "file": f"/proc/self/fd/{descriptor}", "current": "3.2.4",
            "agent": "0.1.0", "dry_run": True,
        }  # fmt: skip
        report = WorkerReleaseSource(load_config(config), config).run_request(order)
    finally:
        os.close(descriptor)
    assert report["reachable_release"] == "3.3.0"


def test_mirror_is_readable_by_the_web_server(
    live: LiveSite, feed: TrialFeed, tmp_path: Path
) -> None:
    """Whatever the mask of the person who makes it."""
    export(feed, tmp_path / "mu.ncen")
    served = tmp_path / "deep/www"
    before = os.umask(0o077)
    try:
        made = live.run("mirror", str(served), "--from-bundle", str(tmp_path / "mu.ncen"))
    finally:
        os.umask(before)
    assert made.returncode == 0, made.stderr
    found = [served, *served.rglob("*")]
    assert {path.stat().st_mode & 0o777 for path in found if path.is_dir()} == {0o755}
    assert {path.stat().st_mode & 0o777 for path in found if path.is_file()} == {0o644}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_unwritable_mirror_is_reported(live: LiveSite, feed: TrialFeed, tmp_path: Path) -> None:
    export(feed, tmp_path / "mu.ncen")
    config = load_config(live.demo.config_path)
    order: dict[str, object] = {"directory": str(tmp_path / "www"), "file": None, "keep": None}
    (tmp_path / "www").mkdir()

    def run_as_nobody() -> None:
        os.setuid(pwd.getpwnam("nobody").pw_uid)
        try:
            HANDLERS["mirror"](config, order, SilentProgress())
        except UpdaterError as error:
            os._exit(0 if error.message is MIRROR_FORBIDDEN and "nobody" in str(error) else 3)
        os._exit(4)

    pid = os.fork()
    if pid == 0:
        run_as_nobody()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.parametrize(
    ("more", "code", "number"),
    [
        (["--for-site", "Kenya"], 2, "NU-1101"),
        (["--from", "3.3.0"], 3, "NU-7051"),
        (["--from", "x"], 2, "NU-1104"),
        (["--to", "9.9.9"], 2, "NU-7018"),
        (["--to", "3.2.4"], 3, "NU-7054"),
        (["--product", "other"], 2, "NU-7024"),
        (["--agent", "0.0.1"], 3, "NU-7051"),
    ],
)
def test_impossible_exports_are_refused(
    feed: TrialFeed, tmp_path: Path, more: list[str], code: int, number: str
) -> None:
    usual = {"--for-site": "MU/mu-national", "--from": "3.2.4", "--output": str(tmp_path / "x")}
    usual.update(dict(zip(more[::2], more[1::2], strict=True)))
    words = [word for pair in usual.items() for word in pair]
    done = run_publisher("export", str(feed.directory), *words, "--json")
    assert json.loads(done.stdout)["error"]["code"] == number
    assert done.returncode == code
    assert not list(tmp_path.iterdir())
