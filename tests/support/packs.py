"""Releases for which delta packs are useful, on a signed feed."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from pathlib import Path

from demo.release_flow import publish_release
from ncen_updater.publisher.new.trial import FeedKeys, create_feed, create_keys

FIRST, SECOND, THIRD = "3.2.4", "3.3.0", "3.3.1"
BYTES = 200_000


def _now() -> datetime:
    return datetime.now(UTC)


def write_large(directory: Path, version: str) -> Path:
    """Write a release with a manifest and a large file that changes slightly in each version."""
    chance = random.Random(7)  # the same in all versions
    content = bytearray(chance.randbytes(BYTES))
    content[BYTES // 2 : BYTES // 2 + 5] = version.encode()
    (directory / "app").mkdir(parents=True)
    (directory / "empty").mkdir()
    (directory / "app" / "data.bin").write_bytes(content)
    (directory / "app" / f"same-{version}.txt").write_bytes(chance.randbytes(30_000))
    (directory / "link").symlink_to("app/data.bin")
    program = directory / "app" / "run"
    program.write_text(f"#!/bin/sh\necho {version}\n")
    program.chmod(0o755)
    (directory / "manifest.toml").write_text(
        f'schema = 1\nproduct = "ncen"\nversion = "{version}"\nupgrade_from = ">=3.2"\n'
        '[notes.en]\ntitle = "A release"\ntext = "Words."\n'
        '[notes.fr]\ntitle = "Une version"\ntext = "Des mots."\n',
        "utf-8",
    )
    return directory


class PackFeed:
    """Feed in which each release is published with packs from the earlier ones."""

    def __init__(self, directory: Path, versions: tuple[str, ...] = (FIRST, SECOND)) -> None:
        self.directory = directory / "feed"
        self._sources = directory / "sources"
        self.keys: FeedKeys = create_keys(directory / "keys", "a long pass phrase")
        create_feed(self.directory, self.keys, _now)
        for version in versions:
            self.publish(version)

    @property
    def root(self) -> Path:
        """Return the trusted root of a new site."""
        return self.directory / "metadata" / "1.root.json"

    def publish(self, version: str) -> None:
        """Publish one release."""
        source = write_large(self._sources / version, version)
        publish_release(self.directory, [source], self.keys, _now, packs=True)

    def served(self, name: str) -> Path:
        """Return the served file of a target, given (the last part of) its name."""
        (found,) = (self.directory / "targets").rglob(f"*.{name}")
        return found
