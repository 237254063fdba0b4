"""What a trial keeps: releases as they were built, their feed, and how far the site came.

The feed belongs to one desk: that which trusts its first root. A fresh desk gets a feed of its own,
of what was built before wherever the release is still the same.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.bounded_io import parse_json
from ncen_updater.common.canonical_json import sha256_hex
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import NOTHING_TO_DO
from ncen_updater.publisher.build.build import MANIFEST_NAME, build_release, scan_release
from ncen_updater.publisher.feed.feed import Feed
from ncen_updater.publisher.new.desk import FIRST_ROOT, DeskSite
from ncen_updater.publisher.release_flow import make_feed, make_keys, publish_draft
from ncen_updater.publisher.signing.draft import draft_releases


class KeptTrial:
    """A directory with a feed for one desk.

    Args:
        work: The directory.
        desk: The site.
    """

    def __init__(self, work: Path, desk: DeskSite) -> None:
        self._work, self._desk, self.feed = work, desk, work / "feed"
        known = desk.trusts(self.feed) and (work / "trial.json").exists()
        self._passed: dict[str, list[str]] = (
            parse_json((work / "trial.json").read_bytes()) if known else {}
        )

    def passed(self, before: str, release: str) -> list[str]:
        """Return the stages that this site came through already."""
        return self._passed.get(f"{before} {release}", ["adopt"] if self._passed else [])

    def pass_stage(self, before: str, release: str, stage: str) -> None:
        """Note a stage that came to a good end."""
        self._passed[f"{before} {release}"] = [*self.passed(before, release), stage]
        durable.write(self._work / "trial.json", json.dumps(self._passed).encode())

    def publish(self, releases: Sequence[Path], clock: Callable[[], datetime]) -> None:
        """Publish what the feed does not have; build what was not built before.

        Raises:
            UpdaterError: If it cannot be built, or the feed has that version with other content.
        """
        keys = make_keys(self._work / "keys", "nobody trusts them")
        if not self._desk.trusts(self.feed):
            shutil.rmtree(self.feed, ignore_errors=True)
            make_feed(self.feed, keys, clock, products=(self._desk.product,))
            durable.make_directory(self._desk.trusted_root.parent)
            shutil.copyfile(self.feed / FIRST_ROOT, self._desk.trusted_root)
        for release in releases:
            manifest = (release / MANIFEST_NAME).read_bytes()
            digest = sha256_hex(scan_release(release).canonical() + manifest)
            built, partial = self._work / "built" / digest, self._work / "built/partial"
            if not built.exists():
                shutil.rmtree(partial, ignore_errors=True)
                build_release(release, partial)
                partial.rename(built)
            try:
                draft = draft_releases(Feed(self.feed).state(), built, clock())
            except UpdaterError as error:
                if error.code != NOTHING_TO_DO.code:
                    raise
            else:
                publish_draft(self.feed, draft, keys, clock, [built])
