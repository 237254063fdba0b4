"""The client behind the command line that the public TUF conformance suite asks for.

The suite (github.com/theupdateframework/tuf-conformance) is no part of this project. To run it::

    pytest tuf_conformance --entrypoint "/abs/python /abs/tests/feed/conformance.py"
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from urllib.parse import quote

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.progress import SilentProgress
from ncen_updater.feed.clock import TrustClock
from ncen_updater.feed.fetching import FEED_SCHEME
from ncen_updater.feed.http_fetcher import HttpFetcher
from ncen_updater.feed.resumable_download import DownloadStream
from ncen_updater.feed.tuf_client import TrustClient


class TwoPlaces(HttpFetcher):
    """A fetcher whose metadata and targets need not lie below one address."""

    def __init__(self, metadata: str, targets: str | None) -> None:
        super().__init__((metadata,), attempts=1)
        self._places = {"metadata": metadata, "targets": targets or metadata}

    def _open_at_mirror(
        self, base: str, url: str, offset: int, deadline_s: float, gzip_limit: int | None = None
    ) -> DownloadStream:
        kind, _, name = url.removeprefix(FEED_SCHEME).partition("/")
        place = self._places[kind]
        base = place if place.endswith("/") else f"{place}/"
        name = FEED_SCHEME + name
        return super()._open_at_mirror(base, name, offset, deadline_s, gzip_limit)


def main() -> int:
    """Do one command of the suite; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--metadata-url", default="")
    parser.add_argument("--metadata-dir", type=Path, required=True)
    parser.add_argument("--target-name", action="append", default=[])
    parser.add_argument("--target-base-url")
    parser.add_argument("--target-dir", type=Path)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init").add_argument("root", type=Path)
    commands.add_parser("refresh")
    commands.add_parser("download")
    chosen = parser.parse_args()
    place: Path = chosen.metadata_dir
    if chosen.command == "init":
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(chosen.root, place / "root.json")
        return 0
    fetcher = TwoPlaces(chosen.metadata_url, chosen.target_base_url)
    try:
        client = TrustClient(
            "none",
            metadata_directory=place,
            trusted_root=place / "root.json",
            fetcher=fetcher,
            clock=TrustClock(place.with_name(f"{place.name}.clock.json")),
        )
        client.refresh()
        for name in chosen.target_name:
            with client._map_errors(name):
                target = client.get_targetinfo(name)
            if target is None:
                sys.stderr.write(f"{name} is not signed\n")
                return 1
            path = (chosen.target_dir or place) / quote(name, "")
            client.download_target_file(target, path, SilentProgress())
    except UpdaterError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    finally:
        fetcher.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
