#!/usr/bin/env python3
"""Run the application's own migrator on the databases that the agent specifies, and on no others.

``ncen-publisher new`` writes this program into a release; change it as the application needs. It
uses only Python's standard library, and exits with 0 only on success. The URL of each database is
in NCEN_DB_<NAME>_URL and refers to a disposable copy.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import importlib.util
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

sys.dont_write_bytecode = True  # do not write to the release


def parse_database_urls(named: Sequence[str]) -> dict[str, str]:
    """Return URLs by the application's database names, in the order of the command line."""
    found = {}
    for item in named:
        name, _, alias = item.partition("=")
        variable = f"NCEN_DB_{name.upper()}_URL"
        if not os.environ.get(variable):
            sys.exit(f"{variable} is not set: the agent sets it when it runs this program")
        found[alias or name] = os.environ[variable]
    return found


def make_django_database(url: str) -> dict[str, object]:
    """Return one entry of Django's DATABASES."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    if parts.scheme == "sqlite":
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": unquote(parts.path)[1:]}
    options = {"options": query["options"]} if "options" in query else {}
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path)[1:],
        "USER": unquote(parts.username or ""),
        "PASSWORD": "",
        "HOST": query.get("host", parts.hostname or ""),
        "PORT": query.get("port", str(parts.port or "")),
        "OPTIONS": options,
    }


def run_django(arguments: argparse.Namespace, urls: Mapping[str, str]) -> None:
    """Run Django's migrations for each database."""
    # Django rebuilds its models for every migration. Frequent garbage collection over these
    # millions of objects would take a quarter of the time, in a process that ends soon.
    gc.set_threshold(500_000, 2, 2)
    if arguments.settings:
        os.environ["DJANGO_SETTINGS_MODULE"] = arguments.settings
    settings = importlib.import_module("django.conf").settings
    known = settings.DATABASES
    others = sorted(set(known) - set(urls) - {a for a in known if not known[a]})
    if others:
        sys.exit(f"the settings name databases that the manifest does not: {', '.join(others)}")
    for alias, url in urls.items():
        known[alias] = {**known.get(alias, {}), **make_django_database(url)}
    importlib.import_module("django").setup()
    gc.freeze()
    call_command = importlib.import_module("django.core.management").call_command
    for alias in urls:
        call_command("migrate", interactive=False, database=alias)


def add_driver(url: str) -> str:
    """Add the release's driver to the URL: SQLAlchemy's default driver depends on its version."""
    if not importlib.util.find_spec("sqlalchemy"):
        return url  # other readers may not know the SQLAlchemy form
    for module in ("psycopg2", "psycopg"):
        if url.startswith("postgresql:") and importlib.util.find_spec(module):
            return f"postgresql+{module}{url.removeprefix('postgresql')}"
    return url


def find_alembic_directory(file: Path, location: str, packages: Sequence[Path]) -> Path:
    """Return the directory to which script_location of an alembic.ini is relative.

    It is the directory of the file, a parent, or a directory of packages.
    """
    for directory in (*file.parents, *packages):
        if (directory / location / "env.py").is_file():
            return directory
    return file.parent  # the location is a package, or Alembic reports the error


def run_alembic(arguments: argparse.Namespace, urls: Mapping[str, str]) -> None:
    """Upgrade each database to the heads, with one alembic.ini each, or one for all."""
    config = importlib.import_module("alembic.config").Config
    command = importlib.import_module("alembic.command")
    start = Path.cwd()
    packages = [start / path for path in arguments.path]
    files = [start / name for name in arguments.config] * (
        1 if len(arguments.config) > 1 else len(urls)
    )
    if len(files) != len(urls):
        sys.exit("give one --config, or one for each --database")
    for file, url in zip(files, map(add_driver, urls.values()), strict=True):
        os.environ["DATABASE_URL"] = url  # for an env.py that reads the URL from the environment
        settings = config(str(file))
        os.chdir(
            find_alembic_directory(
                file, settings.get_main_option("script_location") or "", packages
            )
        )
        settings.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
        command.upgrade(settings, "heads")


#: Runs a console script of the release's packages: scripts written by pip contain build paths.
ENTRY_POINT_CODE = """import os, sys; from importlib.metadata import entry_points
sys.path[:0], sys.argv = sys.argv[1].split(os.pathsep), sys.argv[2:]
found = [one for one in entry_points(group="console_scripts") if one.name == sys.argv[0]]
sys.exit(found[0].load()())"""


def run_command(arguments: argparse.Namespace, urls: Mapping[str, str]) -> None:
    """Run the application's own command for each database; {url} is replaced by the URL."""
    metadata = importlib.import_module("importlib.metadata")
    packaged = {one.name for one in metadata.entry_points(group="console_scripts")}
    directories = os.pathsep.join(str(Path(path).resolve()) for path in arguments.path)
    for url in map(add_driver, urls.values()):
        argv = [word.replace("{url}", url) for word in shlex.split(arguments.run)]
        if argv[0] in packaged:
            argv = [sys.executable, "-I", "-B", "-c", ENTRY_POINT_CODE, directories, *argv]
        extra = {"DATABASE_URL": url, "PYTHONPATH": directories, "PYTHONDONTWRITEBYTECODE": "1"}
        ended = subprocess.run(argv, env={**os.environ, **extra}, check=False)
        if ended.returncode != 0:
            sys.exit(ended.returncode)


def make_jdbc_url(url: str) -> tuple[str, str]:
    """Convert a database URL to a JDBC URL, and return its user."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    if parts.scheme == "sqlite":
        return f"jdbc:sqlite:{unquote(parts.path)[1:]}", ""
    host = query.get("host", parts.hostname or "localhost")
    if host.startswith("/"):
        sys.exit(
            "JDBC cannot use a Unix socket: set 'host' of [databases.postgresql] to a host name"
        )
    port = query.get("port", parts.port or 5432)
    options = f"?options={query['options']}" if "options" in query else ""
    return f"jdbc:postgresql://{host}:{port}{parts.path}{options}", unquote(parts.username or "")


def run_java(arguments: argparse.Namespace, urls: Mapping[str, str]) -> None:
    """Run Flyway or Liquibase for each database."""
    for address, user in map(make_jdbc_url, urls.values()):
        if arguments.tool == "flyway":
            options = [f"-url={address}", *([f"-user={user}"] if user else [])]
            options += [f"-locations=filesystem:{','.join(arguments.config)}", "migrate"]
        else:
            options = [f"--url={address}", *([f"--username={user}"] if user else [])]
            options += [f"--changelog-file={arguments.config[0]}", "update"]
        ended = subprocess.run([arguments.program or arguments.tool, *options], check=False)
        if ended.returncode != 0:
            sys.exit(ended.returncode)


def main() -> None:
    """Parse the command line and run the tool."""
    parser = argparse.ArgumentParser()
    parser.add_argument("tool", choices=["django", "alembic", "command", "flyway", "liquibase"])
    parser.add_argument("--database", action="append", required=True, metavar="NAME[=ALIAS]")
    parser.add_argument("--path", action="append", default=[], help="a directory of its packages")
    parser.add_argument("--settings", help="Django's settings module")
    parser.add_argument(
        "--config",
        action="append",
        default=[],
        help="alembic.ini, directory of migrations, or change log",
    )
    parser.add_argument("--program", help="flyway or liquibase, if they are not on the path")
    parser.add_argument("--run", help="the application's own command; {url} is the database's URL")
    given = parser.parse_args()
    option = {"command": "run", "flyway": "config", "liquibase": "config"}.get(given.tool)
    if option and not getattr(given, option):
        parser.error(f"{given.tool} requires --{option}")
    sys.path[:0] = [str(Path(path).resolve()) for path in given.path]
    urls = parse_database_urls(given.database)
    tools = {"django": run_django, "alembic": run_alembic, "command": run_command}
    tools.get(given.tool, run_java)(given, urls)


if __name__ == "__main__":
    main()
