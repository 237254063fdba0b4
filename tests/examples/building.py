"""Makes the releases of docs/examples as the tutorial tells an integrator to."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from ncen_updater.publisher.cli.main import run
from tests.support.podman import BUSYBOX, podman_settings

REPOSITORY = Path(__file__).parents[2]
SOURCES = REPOSITORY / "docs/examples"
CACHE = REPOSITORY / ".venv/examples-cache"  # ignored by git, as all of .venv
#: What a build takes from the machine, and the packages that bring it.
NEEDED = {
    "tomcat": (
        (
            "/usr/bin/javac",
            "/usr/share/tomcat10/lib/servlet-api.jar",
            "/usr/share/java/postgresql.jar",
        ),
        "default-jdk-headless tomcat10-common libtomcat10-java libpostgresql-jdbc-java",
    ),
    "container": (
        ("/usr/bin/podman", str(BUSYBOX), "/usr/lib/postgresql/*/bin/psql"),
        "podman crun busybox-static postgresql-client",
    ),
}
OLD = "1.0"
#: Parts of Django and SQLAlchemy.
UNUSED = frozenset({"admin", "admindocs", "gis", "humanize", "testing"})


@dataclass(frozen=True)
class Example:
    """One application.

    Attributes:
        name: Its directory.
        product: What the feed calls it; its database and role have the same name.
        release: The version that is upgraded to.
        records: The path of its records, and what they are called in the answer.
        column: Of the records, what a user entered.
        body: What is sent to enter a record.
        below: What each of its paths begins with.
        expands: Whether its migrator works while the version before serves.
    """

    name: str
    product: str
    release: str
    records: str
    column: str
    body: Callable[[str], str]
    below: str = ""
    expands: bool = False

    @property
    def sources(self) -> Path:
        """What the guide shows."""
        return SOURCES / self.name

    @property
    def control(self) -> Path:
        """The program of the site that starts, stops and shows it."""
        own = self.sources / "control"
        return own if own.exists() else SOURCES / "control"


def _json(name: str) -> Callable[[str], str]:
    return lambda text: json.dumps({name: text})


DJANGO = Example("django", "register", "2.0", "seizures", "what", _json("what"))
ALEMBIC = Example("alembic", "permits", "2.0+7", "permits", "holder", _json("holder"),
                  expands=True)  # fmt: skip
TOMCAT = Example("tomcat", "vessels", "2.0", "vessels", "name", str, expands=True)
CONTAINER = Example("container", "parcels", "2.0", "parcels", "contents", str, "cgi-bin/")
EXAMPLES = (DJANGO, ALEMBIC, TOMCAT, CONTAINER)


def release(example: Example, version: str, place: Path, *, whole: bool = False) -> Path:
    """Lay a release out and let ``ncen-publisher new`` write its manifest.

    Args:
        example: Of which application.
        version: ``OLD``, or the example's release.
        place: Made.
        whole: With what of the libraries the example does not use, too: half of the bytes, which
            are packed and unpacked several times.
    """
    made = place / f"{example.product}-{version}"
    shutil.copytree(example.sources / OLD, made, ignore=shutil.ignore_patterns("__pycache__"))
    if version != OLD:
        shutil.copytree(example.sources / "2.0", made, dirs_exist_ok=True,
                        ignore=shutil.ignore_patterns("__pycache__"))  # fmt: skip
    if (example.sources / "requirements.txt").exists():
        packages(example, made / "app/site", whole=whole)
        compiled(made, "app", but="app/site")  # which is
    if (example.sources / "build").exists():
        _build(example, made)
    words = ["new", str(made), "--product", example.product, "--release", version,
             "--health", f"/{example.below}health", "--yes"]  # fmt: skip
    if version != OLD:
        words += ["--upgrade-from", ">=1.0,<2.0"]
    assert run(words) == 0
    with (made / "manifest.toml").open("a", encoding="utf-8") as manifest:
        manifest.write((example.sources / "checks.toml").read_text("utf-8"))
        later = example.sources / "contract.toml"
        if later.exists() and version != OLD:
            manifest.write(later.read_text("utf-8"))
        if example.expands:
            name = f"expand-{version.partition('+')[0]}.toml"
            manifest.write((SOURCES / name).read_text("utf-8"))
    return made


def packages(example: Example, place: Path, *, whole: bool = False) -> None:
    """Do what ``pip install --no-compile --target`` does, from what it did once on this machine.

    Args:
        example: Whose requirements.
        place: Made.
        whole: As for :func:`release`.
    """
    shutil.copytree(_packages(example), place, ignore=None if whole else _unused)


def _unused(directory: str, names: list[str]) -> set[str]:
    if Path(directory).name == "locale":
        return {name for name in names if "." not in name} - {"__pycache__", "en"}
    return set(UNUSED.intersection(names))


def compiled(place: Path, below: str, *, but: str = "", seed: str = "random") -> None:
    """Compile what lies below a release's directory, as the guide has it; what is compiled stays.

    Args:
        place: The release.
        below: A directory in it.
        but: One below that, which is left as it is.
        seed: Of the hashes of the Python that does it.
    """
    words = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "checked-hash",
             "-s", str(place), str(place / below)]  # fmt: skip
    words += ["-x", re.escape(f"{place / but}/")] if but else []
    subprocess.run(words, env={"PYTHONHASHSEED": seed}, check=True, timeout=300)


def interpreter() -> Path:
    """The Python that the wheels of a release are for; not that of a virtual environment."""
    return Path(getattr(sys, "_base_executable", sys.executable)).resolve()


def require(example: Example) -> None:
    """Skip where this machine lacks what a build takes from it, and say what."""
    needed, packages = NEEDED.get(example.name, ((), ""))
    missing = [path for path in needed if not [*Path("/").glob(path[1:])]]
    if missing:
        pytest.skip(f"{', '.join(missing)}: not here; apt-get install {packages}")
    if example.name == CONTAINER.name:
        podman_settings()


def _build(example: Example, made: Path) -> None:
    require(example)
    subprocess.run([example.sources / "build", made], check=True, timeout=300)


def _packages(example: Example) -> Path:
    """What ``pip install --target`` made of the requirements, once for all runs."""
    wanted = example.sources / "requirements.txt"
    digest = hashlib.sha256(wanted.read_bytes()).hexdigest()[:12]
    tag = f"{example.name}-compiled-{sys.implementation.cache_tag}-{platform.machine()}-{digest}"
    place = CACHE / tag
    if place.is_dir():
        return place
    partial = CACHE / f"{tag}.{os.getpid()}"
    argv = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
            "--target", str(partial / "app/site"), "--require-hashes", "--only-binary", ":all:",
            "--no-compile", "-r", str(wanted)]  # fmt: skip
    try:
        ended = subprocess.run(argv, capture_output=True, text=True, timeout=600, check=False)
        if ended.returncode != 0:
            if "THESE PACKAGES DO NOT MATCH THE HASHES" in ended.stderr:
                raise ValueError(ended.stderr)
            pytest.skip(f"{example.name}: the package index is not reachable: "
                        f"{ended.stderr.strip()[-300:]}")  # fmt: skip
        shutil.rmtree(partial / "app/site/bin", ignore_errors=True)
        compiled(partial, "app")
        try:
            (partial / "app/site").rename(place)
        except OSError:
            if not place.is_dir():  # else another run was faster
                raise
    except subprocess.TimeoutExpired:
        pytest.skip(f"{example.name}: the package index gave no answer within ten minutes")
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return place
