"""Tests of ``new``: its manifest passes lint, its program runs the application's migrator.

Django, Alembic and Java are not installed here: where their part of the program is run, small
stand-ins under their names record what they were told.
"""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from ncen_updater.common.messages import RELEASE_NOT_EMPTY
from ncen_updater.formats.errors import ManifestError
from ncen_updater.formats.manifest import Manifest, load_manifest
from ncen_updater.publisher.cli.main import run
from ncen_updater.publisher.lint.release_lint import lint_release
from ncen_updater.publisher.new.manifest_writer import (
    ManifestAnswers,
    make_manifest,
    read_migrate_program,
)
from ncen_updater.publisher.new.migration_detection import (
    DetectedMigrations,
    MigratorKind,
    detect_migrations,
)

MANAGE = 'os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")\n'
SAMPLE = MANAGE.replace("shop", "sample")
INI = "[alembic]\nscript_location = migrations\n"
TREES: dict[str, tuple[Mapping[str, str], MigratorKind, list[str]]] = {
    "Django": (
        {"app/manage.py": MANAGE, "app/site/django/__init__.py": ""},
        MigratorKind.DJANGO,
        ["django", "--database", "shop=default", "--path", "app", "--path", "app/site",
         "--settings", "shop.settings"],
    ),
    "Django beside a library with a project of its own": (
        {"z/manage.py": MANAGE, "site/django/__init__.py": "", "site/a/manage.py": SAMPLE,
         "site/a-1.0.dist-info/RECORD": "a/manage.py,sha256=x,60\n"},
        MigratorKind.DJANGO,
        ["django", "--database", "shop=default", "--path", "z", "--path", "site",
         "--settings", "shop.settings"],
    ),
    "only a library's project": (
        {"site/a/manage.py": SAMPLE, "site/a-1.0.dist-info/RECORD": "b.py,,\na/manage.py,,\n"},
        MigratorKind.NONE, [],
    ),
    "a manage.py of something else": ({"manage.py": "print('no')\n"}, MigratorKind.NONE, []),
    "Alembic": (
        {"alembic.ini": INI, "lib/alembic/__init__.py": ""},
        MigratorKind.ALEMBIC,
        ["alembic", "--database", "shop", "--path", ".", "--path", "lib",
         "--config", "alembic.ini"],
    ),
    "Alembic in a third-party package": (
        {"alembic.ini": INI, "site/other/tests/alembic.ini": INI},
        MigratorKind.ALEMBIC,
        ["alembic", "--database", "shop", "--path", ".", "--config", "alembic.ini"],
    ),
    "Alembic in a package of ours": (
        {"alembic.ini": "[alembic]\nscript_location = shop.db:migrations\n",
         "src/shop/db/migrations/env.py": "", "env.py": "", "migrations/env.py": ""},
        MigratorKind.ALEMBIC,
        ["alembic", "--database", "shop", "--path", ".", "--path", "src",
         "--config", "alembic.ini"],
    ),
    "Flyway": (
        {"db/migration/V1__first.sql": "", "db/migration/V2.1__more.sql": ""},
        MigratorKind.FLYWAY,
        ["flyway", "--database", "shop", "--config", "db/migration"],
    ),
    "Liquibase": (
        {"db/changelog-master.xml": "<databaseChangeLog/>"},
        MigratorKind.LIQUIBASE,
        ["liquibase", "--database", "shop", "--config", "db/changelog-master.xml"],
    ),
    "Flyway with its program": (
        {"db/V1__first.sql": "", "tools/bin/flyway": ""},
        MigratorKind.FLYWAY,
        ["flyway", "--database", "shop", "--config", "db", "--program", "tools/bin/flyway"],
    ),
    "another change log": ({"CHANGELOG.md": "# Changes", "x/changelog.xml": "<log/>"},
                           MigratorKind.NONE, []),
    "what is not of the tree": ({"node_modules/x/manage.py": MANAGE}, MigratorKind.NONE, []),
}  # fmt: skip


def lay(directory: Path, files: Mapping[str, str]) -> Path:
    for name, content in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(content)
    directory.mkdir(exist_ok=True)
    return directory


@pytest.mark.parametrize(
    ("version", "words", "reports"),
    [
        ("2.0", (), None),
        ("2.0", ("--reports", "two"), "two"),
        ("2.0+7", (), "2.0"),
        ("2.0+7", ("--reports", "2.0+7"), None),
        ("2.0.post7", (), None),
        ("2.0.post7", ("--reports", "2.0"), "2.0"),
    ],
)
def test_build_number_is_declared(
    tmp_path: Path, version: str, words: tuple[str, ...], reports: str | None
) -> None:
    words = ("--product", "shop", "--release", version, "--yes", "--migrator", "none", *words)
    assert run(["new", str(lay(tmp_path, {"app": ""})), *words]) == 0
    manifest = load_manifest(tmp_path / "manifest.toml")
    assert (manifest.version, manifest.reports) == (version, reports)


def made(directory: Path, *words: str) -> Manifest:
    assert run(["new", str(directory), "--product", "shop", "--release", "2.0", "--yes",
                "--upgrade-from", ">=1.0,<2.0", *words]) == 0  # fmt: skip
    assert {f.code: f.severity.value for f in lint_release(directory)} == {"NU-7109": "warning"}
    return load_manifest(directory / "manifest.toml")


@pytest.mark.parametrize("name", TREES)
def test_manifest_is_proposed_from_the_tree(tmp_path: Path, name: str) -> None:
    files, kind, argv = TREES[name]
    directory = lay(tmp_path / "r", files)
    assert detect_migrations(directory).kind is kind
    manifest = made(directory)
    assert manifest.accepts_version(manifest.release_version) is False
    program = directory / "bin/ncen-migrate"
    if manifest.migrator is None:
        assert (argv, program.exists()) == ([], False)
    else:
        assert [*manifest.migrator.argv] == ["bin/ncen-migrate", *argv]
        assert program.read_bytes() == read_migrate_program()
        assert os.access(program, os.X_OK)


def test_django_installed_by_pip_is_detected(tmp_path: Path) -> None:
    """As Nautobot: no manage.py of its own, and one of a library's samples."""
    files = {"app/site/django/__init__.py": "", "app/site/a/manage.py": SAMPLE,
             "app/site/a-1.0.dist-info/RECORD": "a/manage.py,,\n"}  # fmt: skip
    migrator = made(lay(tmp_path / "r", files), "--migrator", "django").migrator
    assert migrator is not None
    assert list(migrator.argv[2:]) == ["--database", "shop=default", "--path", "app/site"]


def test_plain_sql_is_detected_for_two_engines_and_databases(tmp_path: Path) -> None:
    files = {}
    for engine in ("postgresql", "sqlite"):
        for database in ("cases", "people"):
            place = f"migrations/{engine}/{database}"
            files[f"{place}/0001_First.up.sql"] = "CREATE TABLE a (id int);"
            files[f"{place}/0001_First.verify.sql"] = "SELECT 1 WHERE 1 = 0;"
    for engine in ("postgresql", "sqlite"):
        files[f"migrations/{engine}/cases/0001_First.down.sql"] = (
            "CREATE TABLE ncen_kept__a AS SELECT * FROM a; DROP TABLE a;"
        )
    directory = lay(tmp_path / "r", files)
    assert run(["new", str(directory), "--product", "shop", "--release", "2.0", "--yes"]) == 0
    cases, people = load_manifest(directory / "manifest.toml").databases
    assert (cases.name, people.name) == ("cases", "people")
    (one,), (other,) = cases.migrations, people.migrations
    assert (one.id, one.up) == ("0001_first", "migrations/{engine}/cases/0001_First.up.sql")
    assert one.down == "migrations/{engine}/cases/0001_First.down.sql"
    assert other.down is None and other.irreversible
    assert not [f for f in lint_release(directory) if f.severity == "critical"]


def test_given_options_prevail(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = lay(tmp_path / "r", {"manage.py": MANAGE, "alembic.ini": INI})
    assert run(["new", str(directory), "--product", "shop", "--release", "2.0", "--json",
                "--database", "cases", "--database", "people", "--migrator", "alembic",
                "--health", "/up", "--upgrade-from", ""]) == 0  # fmt: skip
    said = json.loads(capsys.readouterr().out)
    assert (said["migrator"], said["databases"]) == ("alembic", ["cases", "people"])
    manifest = load_manifest(directory / "manifest.toml")
    assert manifest.notes["en"].title == "shop 2.0"
    assert manifest.health[0].path == "/up"
    assert [f["code"] for f in said["findings"]] == ["NU-7109", "NU-7122"]


#: As pip lays an application out that brings its migrations along, such as MLflow.
INSTALLED = {
    "app/site/shop/db/alembic.ini": "[alembic]\nscript_location = shop/db\n",
    "app/site/shop/db/env.py": "",
    "app/site/shop-2.0.dist-info/METADATA": "",
    "app/site/alembic/__init__.py": "",
}


def test_migrations_in_installed_packages_are_detected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seen with MLflow: what was written did not run, and nothing said that it has a command."""
    found = detect_migrations(lay(tmp_path / "r", INSTALLED))
    assert (found.library, found.files) == (True, ("app/site/shop/db/alembic.ini",))
    assert not detect_migrations(lay(tmp_path / "own", {"alembic.ini": INI})).library
    made(tmp_path / "r")
    assert "the application may have its own command" in capsys.readouterr().err
    (tmp_path / "r/manifest.toml").unlink()
    manifest = made(tmp_path / "r", "--migrator-command", "shop db upgrade {url}")
    assert manifest.migrator is not None
    assert [*manifest.migrator.argv] == [
        "bin/ncen-migrate", "command", "--database", "shop", "--path", "app/site",
        "--run", "shop db upgrade {url}",
    ]  # fmt: skip
    said = capsys.readouterr().err
    assert "Migration by the application's own command: shop db upgrade {url}" in said
    assert "found Alembic" not in said


@pytest.mark.parametrize(
    ("tool", "file", "command"),
    [
        ("knex", "knexfile.js", "migrate:latest --knexfile knexfile.js"),
        ("prisma", "prisma/schema.prisma", "migrate deploy --schema prisma/schema.prisma"),
        ("typeorm", "data-source.js", "migration:run --dataSource data-source.js"),
        ("sequelize-cli", ".sequelizerc", "db:migrate --url {url}"),
        ("knex", "server.js", ""),  # a library that only asks
    ],
)
def test_node_migrator_is_proposed(
    tmp_path: Path, tool: str, file: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = lay(tmp_path / "r", {f"node_modules/.bin/{tool}": "", file: ""})
    words = ["new", str(directory), "--product", "shop", "--release", "3.1", "--upgrade-from", "",
             "--database", "shop", "--yes"]  # fmt: skip
    run(words)
    program = f"node_modules/.bin/{tool}"
    migrator = load_manifest(directory / "manifest.toml").migrator
    argv = migrator.argv if migrator else ()
    assert argv[-1:] == ((f"{program} {command}",) if command else ())
    capsys.readouterr()


def test_migrator_command_is_requested_at_a_terminal(tmp_path: Path) -> None:
    directory = lay(tmp_path / "3.1", INSTALLED)
    ours, theirs = pty.openpty()
    os.write(ours, b"shop db upgrade {url}\nshop\n\n>=3.0,<3.1\nshop\n/up\nOf spring\n")
    ended = subprocess.run(
        [sys.executable, "-m", "ncen_updater.publisher.cli.main", "new", str(directory)],
        stdin=theirs, stderr=theirs, stdout=subprocess.PIPE, timeout=120, check=False,
    )  # fmt: skip
    os.close(theirs)
    os.close(ours)
    assert ended.returncode == 0, ended.stdout
    manifest = load_manifest(directory / "manifest.toml")
    assert manifest.migrator is not None
    assert manifest.migrator.argv[-1] == "shop db upgrade {url}"


def test_missing_answers_are_requested_at_a_terminal(tmp_path: Path) -> None:
    directory = lay(tmp_path / "3.1", {"manage.py": MANAGE})
    ours, theirs = pty.openpty()
    os.write(ours, b"shop\n\n>=3.0,<3.1\ncases, people\n/up\n")
    ended = subprocess.run(
        [sys.executable, "-m", "ncen_updater.publisher.cli.main", "new", str(directory)],
        stdin=theirs, stderr=theirs, stdout=subprocess.PIPE, timeout=120, check=False,
    )  # fmt: skip
    os.close(theirs)
    os.close(ours)
    assert ended.returncode == 0, ended.stdout
    manifest = load_manifest(directory / "manifest.toml")
    assert (manifest.product, manifest.version) == ("shop", "3.1")
    assert [database.name for database in manifest.databases] == ["cases", "people"]
    assert (manifest.health[0].path, manifest.notes["en"].title) == ("/up", "shop 3.1")


@pytest.mark.parametrize("kind", ["file", "link"])
def test_existing_manifest_is_preserved(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = lay(tmp_path / "r", {"manage.py": MANAGE})
    manifest = directory / "manifest.toml"
    manifest.write_text("mine") if kind == "file" else manifest.symlink_to("nowhere")
    assert run(["new", str(directory), "--product", "shop", "--release", "1", "--yes"]) == 1
    assert RELEASE_NOT_EMPTY.code in capsys.readouterr().err
    assert sorted(path.name for path in directory.iterdir()) == ["manage.py", "manifest.toml"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--product", "Shop!", "--release", "1"], "NU-3001"),
        (["--product", "shop", "--release", "one"], "NU-3001"),
        (["--product", "shop", "--release", "1", "--database", "a b"], "NU-3001"),
        (["--product", "shop", "--release", "1", "--upgrade-from", "3"], "NU-3001"),
        (["--release", "1"], "NU-1101"),
    ],
)
def test_invalid_answers_write_nothing(
    tmp_path: Path, words: list[str], code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = lay(tmp_path / "r", {"manage.py": MANAGE})
    assert run(["new", str(directory), "--yes", *words]) != 0
    assert code in capsys.readouterr().err
    assert [path.name for path in directory.iterdir()] == ["manage.py"]


def test_answers_cannot_inject_toml() -> None:
    found = DetectedMigrations(MigratorKind.NONE)
    evil = 'x"\n[migrator]\nargv = ["/bin/sh"]\n# \x7f\x00'
    with pytest.raises(ManifestError):
        make_manifest(ManifestAnswers("shop", "1.0", "1.0", evil, ("a",), found, "/", "en"))


# ---- the program -----------------------------------------------------------------------------

STAND_INS = {
    "lib/django/__init__.py": "def setup(): pass\n",
    "lib/django/conf.py": (
        "class settings: DATABASES = {'default': {'NAME': 'live', 'ATOMIC_REQUESTS': True}}\n"
    ),
    "lib/django/core/__init__.py": "",
    "lib/django/core/management.py": (
        "import gc, json, os\nfrom django.conf import settings\n"
        "def looks(): return gc.get_stats()[0]['collections']\n"
        "def call_command(*words, **more):\n"
        "    before, models = looks(), [[] for _ in range(300_000)]\n"
        "    print(json.dumps([words, more, settings.DATABASES[more['database']],"
        " os.environ['DJANGO_SETTINGS_MODULE'], looks() - before]))\n"
    ),
    "lib/alembic/__init__.py": "",
    "lib/alembic/config.py": (
        "class Config:\n"
        "    def __init__(self, file): self.said = {'file': file}\n"
        "    def set_main_option(self, name, value): self.said[name] = value\n"
        "    def get_main_option(self, name): return LOCATIONS.get(self.said['file'][-6:])\n"
        "LOCATIONS = {'a1.ini': 'pack/db', 'a2.ini': 'other/db', 'a3.ini': 'pack:db'}\n"
    ),
    "lib/alembic/command.py": (
        "import json, os\n"
        "def upgrade(config, to): print(json.dumps([config.said, to, os.getcwd()]))\n"
    ),
    "lib/other/db/env.py": "",
    "lib/psycopg2.py": "",
    "lib/sqlalchemy.py": "",
    "lib/shop.py": (
        "import json, os, sys\n"
        "def main():\n"
        "    print(json.dumps([sys.argv, os.environ['DATABASE_URL'], sys.dont_write_bytecode]))\n"
        "    return 3 if 'fail' in sys.argv else None\n"
    ),
    "lib/shop-2.0.dist-info/METADATA": "Name: shop\nVersion: 2.0\n",
    "lib/shop-2.0.dist-info/entry_points.txt": "[console_scripts]\nshop = shop:main\n",
    "lib/tool": '#!/bin/sh\nprintf "%s\\n" "$@"\nexit ${TOOL_STATUS:-0}\n',
}
POSTGRES = (
    "postgresql://upd@socket.invalid:5433/shop__next_x?host=%2Frun%2Fpg&options=-c%20role%3Dshop"
)
TCP = "postgresql://upd@db.example:5433/shop__next_x"


def migrate(tmp_path: Path, *words: str, **urls: str) -> subprocess.CompletedProcess[str]:
    directory = lay(tmp_path / "slot", STAND_INS)
    (directory / "lib/tool").chmod(0o755)
    (directory / "migrate").write_bytes(read_migrate_program())
    for place, folders, files in os.walk(directory):  # as a slot is: read-only
        assert not [f for f in files if f.endswith(".pyc")], (place, folders)
    environment = {"PATH": os.environ["PATH"], **{k.replace("__", "_"): v for k, v in urls.items()}}
    return subprocess.run(
        [sys.executable, "migrate", *words, "--path", "lib"],
        cwd=directory, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("tool", "option"), [("command", "--run"), ("liquibase", "--config"), ("flyway", "--config")]
)
def test_migrate_program_requires_the_option_of_its_tool(
    tmp_path: Path, tool: str, option: str
) -> None:
    ended = migrate(tmp_path, tool, "--database", "shop", NCEN_DB_SHOP_URL=TCP)
    assert ended.returncode == 2
    assert f"{tool} requires {option}" in ended.stderr


def test_django_gets_only_the_copies(tmp_path: Path) -> None:
    words = ["django", "--settings", "shop.settings", "--database"]
    ended = migrate(tmp_path, *words, "shop=default", NCEN_DB_SHOP_URL=POSTGRES)
    command, more, database, settings, looks = json.loads(ended.stdout)
    assert (ended.returncode, command, settings) == (0, ["migrate"], "shop.settings")
    assert looks == 0, "it looked for garbage while it made its models"
    assert more == {"interactive": False, "database": "default"}
    assert database == {
        "ATOMIC_REQUESTS": True,
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "shop__next_x",
        "USER": "upd",
        "PASSWORD": "",
        "HOST": "/run/pg",
        "PORT": "5433",
        "OPTIONS": {"options": "-c role=shop"},
    }
    ended = migrate(tmp_path, *words, "shop=default", NCEN_DB_SHOP_URL="sqlite:////srv/a b.sqlite")
    assert json.loads(ended.stdout)[2]["NAME"] == "/srv/a b.sqlite"
    ended = migrate(tmp_path, *words, "shop=other", NCEN_DB_SHOP_URL=POSTGRES)
    assert (ended.returncode, ended.stdout) == (1, ""), "the live database was left in"
    assert "default" in ended.stderr


def test_alembic_gets_only_the_copies(tmp_path: Path) -> None:
    words = ["alembic", "--config", "app/alembic.ini", "--database", "a", "--database", "b"]
    lay(tmp_path / "slot/app", {"alembic.ini": INI})
    ended = migrate(tmp_path, *words, NCEN_DB_A_URL=POSTGRES, NCEN_DB_B_URL="sqlite:////b")
    one, other = (json.loads(line) for line in ended.stdout.splitlines())
    app = str(tmp_path / "slot/app")
    # Seen with SQLAlchemy 2.1: unnamed it is psycopg, and the release brings psycopg2.
    url = POSTGRES.replace("postgresql:", "postgresql+psycopg2:").replace("%", "%%")
    assert one == [{"file": f"{app}/alembic.ini", "sqlalchemy.url": url}, "heads", app]
    assert other[0]["sqlalchemy.url"] == "sqlite:////b"


@pytest.mark.parametrize(
    ("file", "place"),
    [("app/pack/db/a1.ini", "app"), ("app/pack/db/a2.ini", "lib"), ("app/pack/db/a3.ini",
     "app/pack/db"), ("app/pack/db/a.ini", "app/pack/db")],
)  # fmt: skip
def test_alembic_runs_in_its_intended_directory(tmp_path: Path, file: str, place: str) -> None:
    """Seen with MLflow: alembic.ini lies within the package, and speaks of it from outside."""
    lay(tmp_path / "slot", {file: "", "app/pack/db/env.py": ""})
    words = ["alembic", "--config", file, "--database", "a"]
    ended = migrate(tmp_path, *words, NCEN_DB_A_URL="sqlite:////a")
    assert json.loads(ended.stdout)[2] == str(tmp_path / "slot" / place)


def test_custom_command_gets_only_the_copies(tmp_path: Path) -> None:
    words = ["command", "--database", "a", "--database", "b", "--run", "shop db 'up to' {url}"]
    urls = {"NCEN_DB_A_URL": POSTGRES, "NCEN_DB_B_URL": "sqlite:////b"}
    ended = migrate(tmp_path, *words, **urls)
    url = POSTGRES.replace("postgresql:", "postgresql+psycopg2:")
    assert [json.loads(line) for line in ended.stdout.splitlines()] == [
        [["shop", "db", "up to", url], url, True],
        [["shop", "db", "up to", "sqlite:////b"], "sqlite:////b", True],
    ]
    assert ended.returncode == 0
    words[-1] = "shop fail"
    ended = migrate(tmp_path, *words, **urls)
    assert (ended.returncode, len(ended.stdout.splitlines())) == (3, 1), "one failed, one waits"
    words[-1] = "lib/tool {url}"
    ended = migrate(tmp_path, *words, **urls)
    assert ended.stdout.splitlines() == [url, "sqlite:////b"]


def test_address_is_unchanged_without_sqlalchemy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(STAND_INS, "lib/sqlalchemy.py")
    words = ["command", "--database", "a", "--run", "lib/tool {url}"]
    ended = migrate(tmp_path, *words, NCEN_DB_A_URL=POSTGRES)
    assert (ended.returncode, ended.stdout) == (0, f"{POSTGRES}\n")


@pytest.mark.parametrize(
    ("tool", "config", "expected"),
    [
        ("flyway", "sql", ["-url=jdbc:postgresql://db.example:5433/shop__next_x", "-user=upd",
                           "-locations=filesystem:sql", "migrate"]),
        ("liquibase", "c.xml", ["--url=jdbc:postgresql://db.example:5433/shop__next_x",
                                "--username=upd", "--changelog-file=c.xml", "update"]),
    ],
)  # fmt: skip
def test_java_gets_only_the_copies(
    tmp_path: Path, tool: str, config: str, expected: list[str]
) -> None:
    words = [tool, "--database", "shop", "--config", config, "--program", "lib/tool"]
    ended = migrate(tmp_path, *words, NCEN_DB_SHOP_URL=TCP)
    assert (ended.returncode, ended.stdout.splitlines()) == (0, expected)
    ended = migrate(tmp_path, *words, NCEN_DB_SHOP_URL=TCP, TOOL__STATUS="3")
    assert ended.returncode == 3
    ended = migrate(tmp_path, *words, NCEN_DB_SHOP_URL=POSTGRES)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "JDBC cannot use a Unix socket" in ended.stderr


def test_unnamed_database_is_refused(tmp_path: Path) -> None:
    ended = migrate(tmp_path, "alembic", "--config", "a.ini", "--database", "shop")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "NCEN_DB_SHOP_URL is not set" in ended.stderr
