"""What the releases made to go wrong do wrong, from ``app/fault.toml``. A good one has no such file."""

import tomllib
from pathlib import Path


class Faults:
    def __init__(self, app: Path):
        place = app / "fault.toml"
        data = tomllib.loads(place.read_text("utf-8")) if place.exists() else {}
        self.never_healthy = bool(data.get("never-healthy", False))
        self.report_version = data.get("report-version")
        self.bad_after_open_seconds = data.get("bad-after-open-seconds")
