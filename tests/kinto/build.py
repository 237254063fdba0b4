"""Makes release directories of Kinto from the package index, as its Secretariat would."""

from __future__ import annotations

import enum
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest import mock

import pytest

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent
CACHE = REPOSITORY / ".venv/kinto-cache"  # ignored by git, as all of .venv

OLD = "23.1.0"
NEW = "26.5.0"
SCHEMAS = {OLD: 23, NEW: 26}  # of the storage; that of the permissions is 2 in both

FAST = 1  # of gzip's levels

# What pip writes about the installation, and what only helps at an installation.
NOISE = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")


class Fault(enum.Enum):
    """A release of the new version with one mistake; the value is the version it has.

    Attributes:
        MIGRATOR: A migration of the permissions that the server refuses, after that of the storage
            was committed: Kinto's migrator ends with a traceback and 1.
        HEALTH: A setting in the release leaves the server without a thread: it starts, takes
            connections, and never answers. Nothing else is wrong with it.
    """

    MIGRATOR = f"{NEW}.post1"
    HEALTH = f"{NEW}.post2"


class PackageIndexUnreachableError(Exception):
    """The packages are not in the cache and cannot be fetched."""


def assemble(version: str, destination: Path, fault: Fault | None = None) -> Path:
    """Make the directory of a release: ``manifest.toml`` and the tree beside it.

    The same version gives the same bytes for one interpreter and platform; wheels with compiled
    parts bind a release to both.

    Args:
        version: ``OLD`` or ``NEW``; which packages.
        destination: Made; must not exist.
        fault: A mistake to build in (``NEW`` only). The release gets a version of its own.

    Raises:
        PackageIndexUnreachableError: With the end of pip's message.
    """
    shutil.copytree(_packages(version), destination / "app/site", symlinks=True)
    shutil.copytree(HERE / "tree", destination, dirs_exist_ok=True, ignore=_no_caches)
    program = destination / "bin/release.py"
    body = program.read_text("utf-8").split("\n", 1)[1]
    program.write_text(f"#!{_interpreter()} -ISB\n{body}", "utf-8")
    program.chmod(0o755)
    if fault is not None:
        _break(destination, fault)
    release = fault.value if fault else version
    (destination / "manifest.toml").write_text(_manifest(release, SCHEMAS[version]), "utf-8")
    return destination


def stage_or_skip() -> Path:
    """Build both releases and both faulty ones, as the publisher does, once for all runs.

    Only compressed less: at the publisher's level that takes longer than all tests. The same
    releases give the same archives: they are kept until a release or any program that builds them
    is another.

    Returns:
        A staging directory of the publisher; must not be written.
    """
    from ncen_updater.publisher.build import release_build as build
    from ncen_updater.publisher.build.release_build import build_release

    package = REPOSITORY / "ncen_updater"
    programs = [package / "publisher/build/release_build.py"]
    programs += sorted((package / "formats").glob("*.py"))
    ours = [path for path in sorted(HERE.rglob("*")) if path.suffix in (".txt", ".ini")]
    ours += [HERE / "build.py", HERE / "tree/bin/release.py"]
    digest = hashlib.sha256(f"{_interpreter()} {platform.machine()}".encode())
    for path in (*programs, *ours):
        digest.update(path.read_bytes())
    place = CACHE / f"staging-{sys.implementation.cache_tag}-{digest.hexdigest()[:12]}"
    if place.is_dir():
        return place
    partial = CACHE / f"{place.name}.{os.getpid()}"
    try:
        with (
            tempfile.TemporaryDirectory(prefix="nu-kinto-") as directory,
            mock.patch.object(build, "GZIP_LEVEL", FAST),
        ):
            for number, (version, fault) in enumerate(
                ((OLD, None), (NEW, None), (NEW, Fault.MIGRATOR), (NEW, Fault.HEALTH))
            ):
                release = assemble_or_skip(version, Path(directory) / str(number), fault)
                build_release(release, partial)
        for earlier in CACHE.glob(f"staging-{sys.implementation.cache_tag}-????????????"):
            shutil.rmtree(earlier, ignore_errors=True)
        partial.rename(place)
    except OSError:
        if not place.is_dir():  # else another run was faster
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return place


def assemble_or_skip(version: str, destination: Path, fault: Fault | None = None) -> Path:
    """Like :func:`assemble`, and skips the test with the reason when the index is out of reach."""
    try:
        return assemble(version, destination, fault)
    except PackageIndexUnreachableError as error:
        pytest.skip(
            f"Kinto {version} is not cached and the package index is not reachable: {error}"
        )


def _interpreter() -> str:
    # Not that of the virtual environment: a release knows nothing of the agent's directories.
    return str(Path(getattr(sys, "_base_executable", sys.executable)).resolve())


def _no_caches(_: str, names: list[str]) -> set[str]:
    return {name for name in names if name == "__pycache__" or name.endswith(".pyc")}


def _packages(version: str) -> Path:
    lock = HERE / f"{version}.txt"
    digest = hashlib.sha256(lock.read_bytes() + b"1").hexdigest()[:12]
    tag = f"{version}-{sys.implementation.cache_tag}-{platform.machine()}-{digest}"
    place = CACHE / tag
    if place.is_dir():
        return place
    partial = CACHE / f"{tag}.{os.getpid()}"
    argv = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    argv += ["--target", str(partial), "--no-deps", "--require-hashes", "--only-binary", ":all:"]
    argv += ["--no-compile", "--cache-dir", str(CACHE / "pip"), "-r", str(lock)]
    try:
        ended = subprocess.run(argv, capture_output=True, text=True, timeout=600, check=False)
        if ended.returncode != 0:
            if "THESE PACKAGES DO NOT MATCH THE HASHES" in ended.stderr:
                raise ValueError(ended.stderr)
            raise PackageIndexUnreachableError(ended.stderr.strip()[-500:])
        _clean(partial)
        partial.rename(place)
    except subprocess.TimeoutExpired as error:
        raise PackageIndexUnreachableError("no answer within ten minutes") from error
    except OSError:
        if not place.is_dir():  # else another run was faster
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return place


def _clean(place: Path) -> None:
    shutil.rmtree(place / "bin", ignore_errors=True)  # start scripts that name our interpreter
    for path in sorted(place.rglob("*")):
        if path.name in NOISE and path.parent.name.endswith(".dist-info"):
            path.unlink()
        elif path.suffix == ".pth" and path.parent == place:
            path.unlink()  # not read with -S
        elif path.name == "__pycache__":
            shutil.rmtree(path)


def _break(release: Path, fault: Fault) -> None:
    ini = release / "app/kinto.ini"
    # Else Kinto reports the version of its package, and that alone would be a fault.
    settings = ini.read_text("utf-8").replace(
        "use = egg:kinto\n", f"use = egg:kinto\nkinto.project_version = {fault.value}\n"
    )
    if fault is Fault.HEALTH:
        ini.write_text(settings.replace("threads = 4", "threads = 0"), "utf-8")
        return
    ini.write_text(settings, "utf-8")
    backend = release / "app/site/kinto/core/permission/postgresql"
    source = (backend / "__init__.py").read_text("utf-8")
    broken = source.replace("schema_version = 2\n", "schema_version = 3\n")
    if broken == source:
        raise ValueError("the release does not have the expected line")
    (backend / "__init__.py").write_text(broken, "utf-8")
    migration = "ALTER TABLE access_control_entries ADD COLUMN granted_at no_such_type;\n"
    (backend / "migrations/migration_002_003.sql").write_text(migration, "utf-8")


# A text of one line that stands for all rows, whatever the order they lie in.
RECORDS_DIGEST = (
    "SELECT coalesce(md5(string_agg(md5(concat_ws('|', parent_id, id, last_modified, deleted,"
    " data)), '' ORDER BY resource_name, parent_id, id)), '') FROM objects"
)
GRANTS_DIGEST = (
    "SELECT coalesce(md5(string_agg(md5(concat_ws('|', object_id, permission, principal)), '' "
    "ORDER BY object_id, permission, principal)), '') FROM access_control_entries"
)


def _schema(name: str) -> str:
    return f"SELECT max(value::int) FROM metadata WHERE name = '{name}_schema_version'"


def _manifest(version: str, schema: int) -> str:
    # "23.1.0" is the first release of the trial; it is installed over nothing.
    upgrade_from = "" if version == OLD else f">={OLD},<{version}"
    return f'''schema = 1
product = "kinto"
version = "{version}"
upgrade_from = "{upgrade_from}"

[needs]
postgresql = ">=14,<19"

[[databases]]
name = "storage"

[[databases]]
name = "permission"

[[databases]]
name = "cache"

[migrator]
argv = ["bin/release.py", "migrate"]
timeout_s = 3600
no_rollback_reason = "Kinto's own migrator only goes forward"

[[checks]]
name = "records before = records after"
database = "storage"
sql = "SELECT count(*) FROM objects WHERE resource_name = 'record' AND NOT deleted"
relation = "equal"

[[checks]]
name = "content of all objects is unchanged"
database = "storage"
sql = "{RECORDS_DIGEST}"
relation = "equal"

[[checks]]
name = "grants are unchanged"
database = "permission"
sql = "{GRANTS_DIGEST}"
relation = "equal"

[[checks]]
name = "entries of the cache are kept"
database = "cache"
sql = "SELECT count(*) FROM cache"
relation = "equal"

[[checks]]
name = "the storage has the schema of this release"
database = "storage"
sql = "{_schema("storage")}"
when = "after"
expect = {schema}

[[checks]]
name = "the permissions have the schema of this release"
database = "permission"
sql = "{_schema("permission")}"
when = "after"
expect = 2

[[health]]
name = "all back ends can be written"
path = "/v1/__heartbeat__"
status = 200
expect = {{ storage = true, permission = true, cache = true }}

[notes.en]
title = "Kinto {version}"
text = "The release of the Kinto project, with what it needs."
'''
