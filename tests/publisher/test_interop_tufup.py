"""Tests of an unmodified tufup client on our feed, where the feed serves such clients."""

from __future__ import annotations

import http.server
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from demo.release_flow import publish_release, withdraw
from ncen_updater.formats.release_document import Withdrawal
from ncen_updater.publisher.new.trial import create_feed, create_keys
from tests.publisher.releases import PASSPHRASE, write_release
from tests.support.packs import write_large

# It unpacks as it always did, which Python 3.12 and 3.13 remark upon.
pytestmark = pytest.mark.filterwarnings("ignore:Python 3.14 will, by default:DeprecationWarning")


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    feed = tmp_path / "feed"
    feed.mkdir()
    handler = partial(_Quiet, directory=str(feed))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield feed, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def client(feed: Path, url: str, work: Path, version: str) -> Any:
    from tufup.client import Client

    for name in ("metadata", "targets", "install"):
        (work / name).mkdir(parents=True, exist_ok=True)
    if not (work / "metadata" / "root.json").exists():
        shutil.copy(feed / "metadata" / "1.root.json", work / "metadata" / "root.json")
    return Client(
        app_name="ncen",
        app_install_dir=work / "install",
        current_version=version,
        metadata_dir=work / "metadata",
        metadata_base_url=f"{url}/metadata/",
        target_dir=work / "targets",
        target_base_url=f"{url}/targets/",
        extract_dir=work / "extract",
        refresh_required=False,
    )


def install(src_dir: Path, dst_dir: Path, **_: object) -> None:
    shutil.rmtree(dst_dir)
    shutil.copytree(src_dir, dst_dir, symlinks=True)
    shutil.rmtree(src_dir)


def now() -> Any:
    from datetime import UTC, datetime

    return datetime.now(UTC)


def test_tufup_client_updates_through_a_required_release(
    served: tuple[Path, str], tmp_path: Path
) -> None:
    feed, url = served
    keys = create_keys(tmp_path / "keys", PASSPHRASE)
    create_feed(feed, keys, now, plain_tufup=("ncen",))
    releases = [
        write_release(tmp_path / "a", "3.2.4"),
        write_release(tmp_path / "b", "3.3.0", required=True),
        write_release(tmp_path / "c", "3.4.0"),
        write_release(tmp_path / "d", "9.0.0", product="ncen-updater"),
    ]
    publish_release(feed, releases, keys, now)
    seen = []
    version = "3.2.4"
    for _ in range(2):
        updater = client(feed, url, tmp_path / "site", version)
        found = updater.check_for_updates(patch=False)
        version = str(found.version)
        seen.append(version)
        updater.download_and_apply_update(skip_confirmation=True, install=install)
        program = tmp_path / "site" / "install" / "bin" / "app"
        assert version in program.read_text()
        assert program.stat().st_mode & 0o111
    assert seen == ["3.3.0", "3.4.0"]
    assert client(feed, url, tmp_path / "site", "3.4.0").check_for_updates() is None


def test_delta_packs_are_ignored_by_tufup(served: tuple[Path, str], tmp_path: Path) -> None:
    """They are targets with names that it does not know; it takes the archive."""
    feed, url = served
    keys = create_keys(tmp_path / "keys", PASSPHRASE)
    create_feed(feed, keys, now, plain_tufup=("ncen",))
    for version in ("3.2.4", "3.3.0"):
        source = write_large(tmp_path / version, version)
        publish_release(feed, [source], keys, now, packs=True)
    assert list((feed / "targets" / "deltas").rglob("*.3.2.4--3.3.0"))
    updater = client(feed, url, tmp_path / "site", "3.2.4")
    assert str(updater.check_for_updates().version) == "3.3.0"
    updater.download_and_apply_update(skip_confirmation=True, install=install)
    assert "3.3.0" in (tmp_path / "site" / "install" / "app" / "run").read_text()


def test_withdrawn_release_is_not_offered_to_tufup(
    served: tuple[Path, str], tmp_path: Path
) -> None:
    feed, url = served
    keys = create_keys(tmp_path / "keys", PASSPHRASE)
    create_feed(feed, keys, now, plain_tufup=("ncen",))
    publish_release(feed, [write_release(tmp_path / "b", "3.3.0")], keys, now)
    assert client(feed, url, tmp_path / "one", "3.2.4").check_for_updates() is not None
    withdraw(feed, "ncen", "3.3.0", Withdrawal(reason="loses cases"), keys, now)
    assert client(feed, url, tmp_path / "two", "3.2.4").check_for_updates() is None


def test_tufup_listing_is_empty_without_the_option(
    served: tuple[Path, str], tmp_path: Path
) -> None:
    """What the option is for: the archive is there, and only a listing of the role shows it."""
    feed, url = served
    keys = create_keys(tmp_path / "keys", PASSPHRASE)
    create_feed(feed, keys, now)
    publish_release(feed, [write_release(tmp_path / "b", "3.3.0")], keys, now)
    updater = client(feed, url, tmp_path / "site", "3.2.4")
    assert updater.check_for_updates() is None
    assert updater.get_targetinfo("ncen-3.3.0.tar.gz") is not None
