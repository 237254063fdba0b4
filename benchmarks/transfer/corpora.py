"""Pairs of real consecutive releases, downloaded from PyPI and unpacked."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import print_line

PROGRAM = 0o111


@dataclass(frozen=True)
class Pair:
    """Two consecutive releases of a package.

    Attributes:
        name: The package; also the name of the product in both feeds.
        kind: Kind of its files.
        top: The directory of the package that is used; all of it if empty.
        peer: Whether tufup makes a patch of it; for some packages it takes too long.
    """

    name: str
    old: str
    new: str
    kind: str
    top: str = ""
    peer: bool = True


PAIRS = (
    Pair("jupyterlab", "4.6.5", "4.6.6", "front-end assets with hashes in their names"),
    Pair("mlflow", "3.17.2", "3.18.0", "text and front-end assets"),
    Pair("scipy", "1.17.0", "1.17.1", "compiled binaries"),
    Pair("ruff", "0.17.5", "0.17.6", "one binary"),
    Pair("openapi-generator-cli", "7.25.0", "7.26.0", "one jar"),
    Pair("h2o", "3.46.0.11", "3.46.0.12", "one jar of 280 MB", top="h2o"),
    Pair("pyspark", "4.1.3", "4.1.4", "many jars, versions in their names"),
)
# Nothing was tuned with these pairs: they test whether the results above hold for others.
HELD_BACK = (
    Pair("chainlit", "2.11.1", "2.12.0", "front-end assets with hashes in their names"),
    Pair("dagster-webserver", "1.13.27", "1.13.28", "assets named by their hashes", peer=False),
    Pair("prefect", "3.9.0", "3.9.1", "text and front-end assets"),
    Pair("django", "5.2.18", "5.2.19", "text"),
    Pair("pandas", "3.1.0", "3.1.1", "compiled binaries"),
    Pair("nautobot", "3.2.6", "3.2.7", "text and a front-end of 160 MB", peer=False),
    # Chosen after the work was finished, without looking at them first.
    Pair("apache-airflow-core", "3.3.1", "3.3.2", "text and front-end assets"),
    Pair("taipy-gui", "4.1.1", "4.1.2", "front-end assets, text"),
    Pair("scikit-learn", "1.9.0", "1.9.1", "compiled binaries"),
)


def unpacked(pair: Pair, cache: Path) -> tuple[Path, Path]:
    """Return the directories of the old and the new release; download and unpack missing ones.

    Args:
        pair: The pair.
        cache: Directory for downloads and unpacked releases.
    """
    return _one(pair, pair.old, cache), _one(pair, pair.new, cache)


def _one(pair: Pair, version: str, cache: Path) -> Path:
    place = cache / "trees" / f"{pair.name}-{version}"
    if place.is_dir():
        return place
    downloads = cache / "downloads" / f"{pair.name}-{version}"
    if not (downloads.is_dir() and any(downloads.iterdir())):
        print_line(f"downloading {pair.name} {version}")
        downloads.mkdir(parents=True, exist_ok=True)
        # Wheels of one platform, so that another machine compares the same files.
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(downloads),
             f"{pair.name}=={version}"],
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
    (file,) = downloads.iterdir()
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent) as folder:
        _unpack(file, Path(folder) / "all")
        _plain(Path(folder) / "all")
        shutil.move(_root(Path(folder) / "all", file, pair.top), place)
    return place


def _unpack(file: Path, place: Path) -> None:
    if file.suffix == ".whl":
        with zipfile.ZipFile(file) as wheel:
            wheel.extractall(place)
            for member in wheel.infolist():
                if member.external_attr >> 16 & PROGRAM:
                    (place / member.filename).chmod(0o755)
    else:
        with tarfile.open(file) as archive:
            archive.extractall(place, filter="data")


def _plain(place: Path) -> None:
    """Set one of two modes, as either publisher would."""
    for directory, _, names in os.walk(place):
        Path(directory).chmod(0o755)
        for name in names:
            path = Path(directory, name)
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & PROGRAM else 0o644)


def _root(place: Path, file: Path, top: str) -> Path:
    if file.suffix != ".whl":
        (place,) = place.iterdir()  # a source archive contains one directory
    return place / top
