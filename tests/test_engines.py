"""Tests that a database engine is its package and one line: no other room names it."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from ncen_updater.agent.adapters.databases.engines import ENGINES, get_engine_descriptor
from ncen_updater.agent.config.engines import ENGINE_SETTINGS
from ncen_updater.formats.dialects import DIALECTS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "ncen_updater"
WORDS = ("postgres", "psycopg", "sqlite")
#: Where an engine may be named, with the reason. A path that ends with / is a room.
ALLOWED = {
    "agent/adapters/databases/postgresql/": "its package",
    "agent/adapters/databases/sqlite/": "its package",
    "agent/adapters/databases/engines.py": "the line",
    "agent/config/engines.py": "the settings of each",
    "agent/setup/": "what a site is set up with: files and roles of a server, or files",
    "formats/dialects.py": "its SQL, which publishers read as sites do; and the line",
    "formats/manifest.py": "[needs] is of the form of manifests, which is signed",
    "publisher/lint/sql_rules.py": "programs that judge the syntax of one engine",
    "publisher/new/templates/migrate.py": "a program of the application, which is given addresses",
    "common/error_sanitizer.py": "what errors of drivers and programs may say of a row",
    "agent/reports/diagnostics/support_bundle/contents.py": "a library's version, for the journal",
}
#: The journal is a file of this library, whatever the application's databases are.
OF_THE_JOURNAL = re.compile(
    r"sqlite3|sqlite_(master|errorcode|full|readonly_rollback)|journal\.sqlite"
)


def named(text: str) -> Iterator[tuple[int, str]]:
    """Every place of a file's code that names an engine: no comments and no documentation."""
    before = tokenize.INDENT
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        said = token.string.lower()
        documents = token.type == tokenize.STRING and before in (
            tokenize.INDENT, tokenize.NEWLINE, tokenize.DEDENT,
        )  # fmt: skip
        said = OF_THE_JOURNAL.sub("", said)
        if not documents and token.type != tokenize.COMMENT and any(w in said for w in WORDS):
            yield token.start[0], token.string
        if token.type not in (tokenize.NL, tokenize.COMMENT):
            before = token.type


def places(package: Path) -> Iterator[str]:
    for path in sorted(package.rglob("*.py")):
        place = str(path.relative_to(package))
        if not any(place == ok or (ok.endswith("/") and place.startswith(ok)) for ok in ALLOWED):
            yield from (f"{place}:{line} {said}" for line, said in named(path.read_text("utf-8")))


def test_no_other_room_names_an_engine() -> None:
    assert list(places(PACKAGE)) == []


def test_every_exception_is_needed() -> None:
    for place in ALLOWED:
        files = [PACKAGE / place] if place.endswith(".py") else (PACKAGE / place).rglob("*.py")
        assert any(any(named(path.read_text("utf-8"))) for path in files), place


@pytest.mark.parametrize(
    "line",
    [
        'if kind == "postgresql": pass',
        "from ncen_updater.agent.adapters.databases.sqlite import layout",
        "import psycopg",
        "config.databases.sqlite.directory",
        'TITLES = {"sqlite": 1}',
    ],
)
def test_engine_name_is_found(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.py").write_text(f'"""PostgreSQL, in words."""\n\n# and SQLite\n{line}\n')
    assert len(list(places(tmp_path))) == 1


def test_every_engine_has_an_adapter_and_a_dialect() -> None:
    assert list(ENGINES) == list(DIALECTS) == list(ENGINE_SETTINGS)
    for name in ENGINES:
        assert get_engine_descriptor(name).text_columns_query


THIRD = """
import json, sys
from pathlib import Path
from ncen_updater.agent.adapters.databases import engines
from ncen_updater.agent.config import engines as settings
from tests.support.tiny_engine.descriptor import TinySettings
engines.ENGINES["tiny"] = "tests.support.tiny_engine"  # one line
settings.ENGINE_SETTINGS["tiny"] = TinySettings  # and the other

from ncen_updater.agent.config.loader import load_config
from ncen_updater.agent.adapters.databases.base import LiveDatabase, MigrationPlan, MigrationSet
from ncen_updater.agent.adapters.databases.engines import make_engine
from ncen_updater.agent.adapters.databases.migrations.planner import render_plan_sql
from ncen_updater.agent.reports.diagnostics.support_bundle.leaks import sample_values
from ncen_updater.common.toml_writer import render_toml
from ncen_updater.formats.manifest import SiteRequirements

root = Path(sys.argv[1])
(root / "run/ncen").mkdir(parents=True)
tiny = {"engine": "tiny", "names": {"cases": "cases"}, "tiny": {"directory": "srv/tiny"}}
application = {"unit": "ncen.service", "health_url": "http://127.0.0.1:8000"}
(root / "agent.toml").write_text(render_toml({
    "schema": 1, "site": {"id": "a-site", "country": "KE"}, "paths": {"root": str(root)},
    "feed": {"urls": ["http://a/"]}, "databases": tiny,
    "application": {**application, "maintenance_file": "run/ncen/maintenance"},
}))
config = load_config(root / "agent.toml")
engine = make_engine(config.databases, root)
empty = MigrationSet("1.0", root, {"cases": ()})
print(json.dumps({
    "kind": engine.engine_name,
    "place": str(config.databases.engine_settings.local_directory),
    "needs": SiteRequirements().get_specifier(engine.engine_name),
    "sampled": list(sample_values(engine, frozenset()).values.values()),
    "words": render_plan_sql(MigrationPlan(()), engine.engine_name, empty),
    "drivers": [name for name in ("psycopg", "sqlite3") if name in sys.modules],
}))
"""


def test_third_engine_needs_its_package_and_two_lines(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", THIRD, str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "kind": "tiny",
        "place": str(tmp_path / "srv/tiny"),
        "needs": "",
        "sampled": ["cases: persons.name"],
        "words": "-- Release 1.0, tiny: 0 migrations\n",
        "drivers": [],
    }
