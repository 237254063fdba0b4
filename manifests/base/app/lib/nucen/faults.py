"""What a release made to go wrong does wrong (``app/fault.toml``; a good one has none)."""

import tomllib
from pathlib import Path


class Faults:
    def __init__(self, app: Path):
        place = app / "fault.toml"
        data = tomllib.loads(place.read_text("utf-8")) if place.exists() else {}
        self.never_healthy = bool(data.get("never-healthy", False))
        self.report_version = data.get("report-version")
        self.bad_after_open_seconds = data.get("bad-after-open-seconds")
