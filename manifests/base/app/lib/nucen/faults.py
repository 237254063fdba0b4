"""Faults of a release that is broken on purpose (``app/fault.toml``; a good one has none)."""

import hashlib
import tomllib
from pathlib import Path


class Faults:
    def __init__(self, app: Path):
        place = app / "fault.toml"
        data = tomllib.loads(place.read_text("utf-8")) if place.exists() else {}
        self.never_healthy = bool(data.get("never-healthy", False))
        self.report_version = data.get("report-version")
        self.bad_after_open_seconds = data.get("bad-after-open-seconds")
        self.arrange_photos = bool(data.get("arrange-photos", False))

    def arrange(self, photos: Path):
        """Sort the pictures by year, as a release may at its first start; invented years."""
        if not self.arrange_photos:
            return
        for picture in sorted(photos.glob("*.*")):
            digest = hashlib.sha256(picture.name.encode()).digest()
            year = photos / str(2015 + digest[0] % 10)
            year.mkdir(exist_ok=True)
            picture.rename(year / picture.name)
