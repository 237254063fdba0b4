"""Small release directories, written on the spot."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from ncen_updater.publisher.new.trial import FeedKeys, create_keys

PASSPHRASE = "correct horse battery"
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def clock() -> datetime:
    return NOW


def ring(tmp_path: Path) -> FeedKeys:
    return create_keys(tmp_path / "keys", PASSPHRASE)


def write_release(
    directory: Path,
    version: str = "3.3.0",
    product: str = "ncen",
    extra: str = "",
    required: bool = False,
    upgrade_from: str = ">=3.2",
) -> Path:
    """A release with a program, a file, an empty directory and a link."""
    (directory / "bin").mkdir(parents=True)
    (directory / "empty").mkdir()
    program = directory / "bin" / "app"
    program.write_text(f"#!/bin/sh\necho {version}\n")
    program.chmod(0o755)
    (directory / "Zahl é.txt").write_text("x" * 5000)
    (directory / "link").symlink_to("bin/app")
    (directory / "manifest.toml").write_text(
        f'schema = 1\nproduct = "{product}"\nversion = "{version}"\n'
        f'upgrade_from = "{upgrade_from}"\nrequired = {str(required).lower()}\n'
        '[notes.en]\ntitle = "A release"\ntext = "Words."\n'
        '[notes.fr]\ntitle = "Une version"\ntext = "Des mots."\n'
        f"{extra}"
    )
    return directory


def write_sbom(file: Path, version: str = "3.3.0") -> Path:
    """An SBOM of a release with two components."""
    parts = [
        {"type": "library", "name": name, "version": "1.0", "bom-ref": name}
        for name in ("tool", "other")
    ]
    product = {"type": "application", "name": "ncen", "version": version, "bom-ref": "ncen"}
    document = {
        "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
        "metadata": {"component": product}, "components": parts,
    }  # fmt: skip
    file.write_text(json.dumps(document))
    return file
