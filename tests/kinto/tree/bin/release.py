#!/usr/bin/python3 -ISB
"""The two programs of a Kinto release: ``serve`` and ``migrate``.

``release.py serve --overlay FILE --run DIRECTORY`` serves in the foreground.
``release.py migrate`` migrates the databases at NCEN_DB_STORAGE_URL, NCEN_DB_PERMISSION_URL and
NCEN_DB_CACHE_URL with Kinto's own migrator; its exit status is 0 only when all went well.

The interpreter runs with -I (nothing from the environment), -S (no packages of the system) and -B
(no compiled files: nothing is ever written into a slot).
"""

from __future__ import annotations

import argparse
import configparser
import os
import secrets
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATABASES = ("storage", "permission", "cache")
# Kinto lets variables such as KINTO_STORAGE_URL, and even STORAGE_URL, win over its file. A
# forgotten one would lead a migrator to the live database, so nothing but these is kept.
KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")
KEPT_PREFIX = "PG"  # libpq: password file, TLS

Settings = Mapping[str, Mapping[str, str]]


def sqlalchemy_url(url: str) -> str:
    """Name the driver: what SQLAlchemy takes for ``postgresql://`` differs by its version."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.split("+")[0] not in ("postgresql", "postgres"):
        raise SystemExit("not the address of a PostgreSQL database")
    return f"postgresql+psycopg2://{rest}"


def write_ini(target: Path, overlay: Path | None, settings: Settings) -> None:
    """Write the release's settings, then the site's, then ``settings``; readable by us only."""
    ini = configparser.RawConfigParser(delimiters=("=",))
    ini.optionxform = str  # type: ignore[assignment, method-assign]
    ini.read_string((ROOT / "app/kinto.ini").read_text("utf-8"))
    site = configparser.RawConfigParser(delimiters=("=",))
    site.optionxform = str  # type: ignore[assignment, method-assign]
    if overlay is not None:
        site.read_string(overlay.read_text("utf-8"))
    for source in ({name: dict(site.items(name)) for name in site.sections()}, settings):
        for section, values in source.items():
            for key, value in values.items():
                # The reader of the file takes % for the start of a reference.
                ini.set(section, key, value.replace("%", "%%"))
    for name in DATABASES:
        key = f"kinto.{name}_url"
        ini.set("app:main", key, sqlalchemy_url(ini.get("app:main", key)))
    target.unlink(missing_ok=True)
    target.touch(0o600, exist_ok=False)
    with target.open("w", encoding="utf-8") as stream:
        ini.write(stream)


def kinto(*arguments: str) -> int:
    """Kinto's own command line."""
    sys.path[:0] = [str(ROOT / "app/site")]
    from kinto.__main__ import main  # type: ignore[import-not-found]

    return int(main(list(arguments)) or 0)


def serve(overlay: Path, run: Path) -> int:
    """Serve in the foreground until ended."""
    ini = run / "kinto.ini"
    write_ini(ini, overlay, {})
    return kinto("start", "--ini", str(ini))


def migrate(addresses: Mapping[str, str]) -> int:
    """Migrate the databases at these addresses and nothing else."""
    missing = [name for name in DATABASES if name not in addresses]
    if missing:
        raise SystemExit(f"no address given for: {', '.join(missing)}")
    values = {f"kinto.{name}_url": addresses[name] for name in DATABASES}
    values["kinto.userid_hmac_secret"] = secrets.token_hex()  # needed to start, used for nothing
    with tempfile.TemporaryDirectory(prefix="kinto-migrate-") as directory:
        ini = Path(directory) / "kinto.ini"
        write_ini(ini, None, {"app:main": values})
        return kinto("migrate", "--ini", str(ini))


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("migrate")
    serving = commands.add_parser("serve")
    serving.add_argument("--overlay", type=Path, required=True)
    serving.add_argument("--run", type=Path, required=True)
    options = parser.parse_args()
    addresses = {
        name: os.environ[f"NCEN_DB_{name.upper()}_URL"]
        for name in DATABASES
        if os.environ.get(f"NCEN_DB_{name.upper()}_URL")
    }
    for variable in tuple(os.environ):
        if variable not in KEPT and not variable.startswith(KEPT_PREFIX):
            del os.environ[variable]
    if options.command == "migrate":
        return migrate(addresses)
    return serve(options.overlay, options.run)


if __name__ == "__main__":
    sys.exit(main())
