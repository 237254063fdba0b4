"""Tests that the built wheel has every file of the package: templates, catalogues."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: What messages.json is made of.
SOURCE = "messages.toml"
ASIDE = shutil.ignore_patterns("__pycache__", "*.pyc")


def test_wheel_contains_every_package_file(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(ROOT / "ncen_updater", source / "ncen_updater", ignore=ASIDE)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    # As script/debian and script/agent-release do: without the index.
    words = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", *words]
    subprocess.run([*pip, "--wheel-dir", tmp_path, source], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    files = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "ncen_updater").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.name != SOURCE
    }
    assert "ncen_updater/agent/reports/dossier/templates/dossier.html" in files
    assert files - packed == set()
