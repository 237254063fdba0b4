"""Tests that each lint rule finds its mistake, and a valid release has none."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.version import Version

from demo.release_flow import withdraw
from ncen_updater.common.messages import FEED_BROKEN, SQL_FORBIDDEN
from ncen_updater.formats.manifest import is_version_accepted
from ncen_updater.formats.release_document import Withdrawal
from ncen_updater.publisher.build.release_build import build_release
from ncen_updater.publisher.feed.feed_directory import FeedDirectory
from ncen_updater.publisher.lint.release_lint import find_previous_release, lint_release
from ncen_updater.publisher.lint.rules import PreviousRelease
from ncen_updater.publisher.new.trial import FeedKeys
from tests.publisher.releases import clock, write_release
from tests.support.errors import refused

GOOD = """
[[databases]]
name = "cases"
[[databases.migrations]]
id = "001"
up = "m/001.up.sql"
down = "m/001.down.sql"
verify = "m/001.verify.sql"
[[checks]]
name = "cases stay"
database = "cases"
sql = "SELECT count(*) FROM cases"
relation = "equal"
[[health]]
name = "answers"
path = "/health"
"""


def good(directory: Path, extra: str = GOOD, version: str = "3.3.0") -> Path:
    release = write_release(directory, version, extra=extra)
    (release / "m").mkdir()
    (release / "m/001.up.sql").write_text("-- COMMIT;\nALTER TABLE a ADD b text DEFAULT 'BEGIN;'")
    (release / "m/001.down.sql").write_text(
        "CREATE TABLE ncen_kept.a AS SELECT id, b FROM a; ALTER TABLE a DROP b"
    )
    (release / "m/001.verify.sql").write_text("SELECT * FROM a WHERE b IS NULL")
    return release


def codes(release: Path, severity: str | None = None) -> set[str]:
    found = lint_release(release)
    return {f.code[3:] for f in found if severity in (None, f.severity.value)}


def test_valid_release_has_no_findings(tmp_path: Path) -> None:
    assert lint_release(good(tmp_path / "r")) == []


def test_agent_release_needs_no_health_probe(tmp_path: Path) -> None:
    for product, expected in (("ncen", {"7120"}), ("ncen-updater", set())):
        release = write_release(tmp_path / product, product=product)
        assert codes(release) & {"7120"} == expected


def test_unmatched_version_range_is_reported(tmp_path: Path) -> None:
    release = good(tmp_path / "r")
    text = (release / "manifest.toml").read_text()
    kept = [line for line in text.splitlines() if not line.startswith("upgrade_from")]
    (release / "manifest.toml").write_text("\n".join(kept))
    (found,) = lint_release(release)
    assert not is_version_accepted("", Version("3.2.4"))
    assert found.title.render().startswith("No 'upgrade_from'")


@pytest.mark.parametrize(
    ("expected", "old", "new"),
    [
        ("7101", "schema = 1", "schema = 2"),
        ("7101", 'down = "m/001.down.sql"\n', ""),
        ("7105", "m/001.verify.sql", "m/002.verify.sql"),
        ("7117", "SELECT count(*) FROM cases", "SELECT 1; DELETE FROM cases"),
        ("7120", '[[health]]\nname = "answers"\npath = "/health"\n', ""),
        ("7188", "[[health]]\n", '[smoke]\nargv = ["bin/none"]\n\n[[health]]\n'),
    ],
)
def test_manifest_mistakes_are_found(tmp_path: Path, expected: str, old: str, new: str) -> None:
    release = good(tmp_path / "r")
    manifest = release / "manifest.toml"
    text = manifest.read_text()
    assert old in text
    manifest.write_text(text.replace(old, new))
    assert expected in codes(release, "critical")


@pytest.mark.parametrize(
    ("expected", "sql"),
    [
        ("7111", "UPDATE a SET b = 1; COMMIT; SELECT 1"),
        ("7111", "/* x */ begin; select 1"),
        ("7112", "CREATE INDEX CONCURRENTLY i ON a (b)"),
        ("7112", "VACUUM a"),
        ("7124", "SELECT 1;\0"),
        ("7125", "SELEC 1"),
    ],
)
def test_migration_mistakes_are_found(tmp_path: Path, expected: str, sql: str) -> None:
    release = good(tmp_path / "r")
    (release / "m/001.up.sql").write_text(sql)
    assert codes(release, "critical") == {expected}


def test_remedy_names_the_role_in_which_migrations_run() -> None:
    """Seen: "in the agent's role", which has more rights."""
    assert "as the application's role" in SQL_FORBIDDEN.remedy


@pytest.mark.parametrize(
    ("down", "loses", "expected"),
    [
        ("ALTER TABLE a DROP b", "", {"7127 critical a.b"}),
        ("ALTER TABLE a DROP b", 'data_loss = ["a.b"]', {"7128 warning a.b"}),
        ("ALTER TABLE a DROP b", 'data_loss = ["A"]', {"7128 warning A"}),
        ("ALTER TABLE a DROP b", 'data_loss = ["a.c"]', {"7127 critical a.b", "7128 warning a.c"}),
        ("DROP TABLE codes", "", {"7129 warning codes"}),
        ("ALTER TABLE a ADD CHECK (b > '')", "", {"7130 critical a"}),
        ("CREATE TABLE ncen_kept__a AS SELECT * FROM a; ALTER TABLE a DROP b", "", set()),
        # What the signers' page once marked by a reader of its own, and sites did not see.
        ("MERGE INTO a USING x ON true WHEN MATCHED THEN DELETE", "", {"7127 critical a"}),
        ("INSERT INTO a VALUES (1) ON CONFLICT DO UPDATE SET b = 1", "", {"7127 critical a.b"}),
        ("TRUNCATE ncen_kept.x CASCADE", "", {"7127 critical ncen_kept.x"}),
        ("DROP SCHEMA ncen_kept, s CASCADE", "", {"7127 critical s"}),
        ("DROP TYPE kind CASCADE", "", {"7127 critical kind"}),
        ("DROP TYPE kind CASCADE", 'data_loss = ["kind"]', {"7128 warning kind"}),
        ("REPLACE INTO a VALUES (1)", "", {"7127 critical a"}),
        ("WITH d AS (DELETE FROM a RETURNING 1) SELECT 1", "", {"7127 critical a"}),
    ],
)
def test_undeclared_data_loss_is_found(
    tmp_path: Path, down: str, loses: str, expected: set[str]
) -> None:
    release = good(tmp_path / "r", GOOD.replace("verify =", f"{loses}\nverify ="))
    (release / "m/001.up.sql").write_text(
        "ALTER TABLE a ADD b text; CREATE TABLE codes (c text); INSERT INTO codes VALUES ('x')"
    )
    (release / "m/001.down.sql").write_text(down)
    found = {
        f"{f.code[3:]} {f.severity.value} {f.figures.get('object') or f.figures['objects']}"
        for f in lint_release(release)
        if f.code != "NU-7125"  # SQLite has no ADD CHECK
    }
    assert found == expected


def test_loss_without_a_down_migration_is_not_declared(tmp_path: Path) -> None:
    text = GOOD.replace('down = "m/001.down.sql"', 'irreversible = "gone for good"\nloses = ["a"]')
    assert codes(good(tmp_path / "r", text)) == {"7101"}


@pytest.mark.parametrize(
    ("sql", "table"),
    [
        ("SELECT 1;\nUPDATE cases.a SET b = lower(b)", "cases.a"),
        ("UPDATE a SET b = 'WHERE'", "a"),
        ("UPDATE a SET b = lower(b) WHERE b <> lower(b)", None),
        ("UPDATE a SET b = o.b FROM o WHERE o.id = a.id", None),
        ("ALTER TABLE a ALTER b TYPE text USING lower(b)", None),
    ],
)
def test_unconditional_update_is_reported(tmp_path: Path, sql: str, table: str | None) -> None:
    release = good(tmp_path / "r")
    (release / "m/001.up.sql").write_text(sql)
    found = [f.figures for f in lint_release(release) if f.code == "NU-7183"]
    assert [f["table"] for f in found] == ([table] if table else [])


def test_empty_migration_file_is_a_warning(tmp_path: Path) -> None:
    release = good(tmp_path / "r")
    (release / "m/001.up.sql").write_text("-- nothing")
    assert (codes(release), codes(release, "critical")) == ({"7114"}, set())


def test_tree_mistakes_are_found(tmp_path: Path) -> None:
    release = good(tmp_path / "r")
    (release / "BIN").mkdir()
    assert codes(release) == {"7110"}
    (release / "out").symlink_to("../..")
    assert codes(release) == {"7102"}


@pytest.mark.parametrize(
    ("name", "content", "warned"),
    [
        ("cacert.pem", "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n", False),
        ("public.key", "-----BEGIN PUBLIC KEY-----\nMII\n-----END PUBLIC KEY-----\n", False),
        ("server.pem", "-----BEGIN RSA {}-----\nMII\n".format("PRIVATE KEY"), True),
        ("server.key", "-----BEGIN ENCRYPTED {}-----\nMII\n".format("PRIVATE KEY"), True),
        ("store.p12", "x", True),
        (".env", "SECRET=1", True),
    ],
)
def test_secrets_are_recognised_by_content(
    tmp_path: Path, name: str, content: str, warned: bool
) -> None:
    release = good(tmp_path / "r")
    (release / name).write_text(content)
    assert codes(release) == ({"7121"} if warned else set())


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        ("[notes.en]\ntitle = 'x'\n", {"7109 warning fr"}),
        ("[notes.fr]\ntitle = 'x'\ntext = 'y'\n", {"7109 warning en"}),
        ("[notes.es]\ntitle = 'x'\n", {"7109 warning en", "7109 warning fr"}),
        ("", {"7141 critical None"}),
    ],
)
def test_notes_in_one_language_are_sufficient(
    tmp_path: Path, kept: str, expected: set[str]
) -> None:
    release = good(tmp_path / "r")
    manifest = release / "manifest.toml"
    head, _, rest = manifest.read_text().partition("[notes.en]")
    manifest.write_text(f"{head}{kept}{rest[rest.index('[[databases]]') :]}")
    found = {
        f"{f.code[3:]} {f.severity.value} {f.figures.get('language')}"
        for f in lint_release(release)
    }
    assert found == expected


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        ("3.3.0", set()),
        ("v3.3", set()),
        ("3.3.0+7", set()),
        ("spring", set()),
        ("3.2.4", {"7160"}),
        ("3.3.1", {"7160"}),
    ],
)
def test_reported_version_is_checked(tmp_path: Path, reports: str, expected: set[str]) -> None:
    release = good(tmp_path / "r")
    manifest = release / "manifest.toml"
    manifest.write_text(f'reports = "{reports}"\n{manifest.read_text()}')
    assert codes(release) == expected


def test_names_differing_in_unicode_normalisation_are_found(tmp_path: Path) -> None:
    release = good(tmp_path / "r")
    (release / "pie\u0300ce").write_text("x")
    (release / "pi\u00e8ce").write_text("x")
    assert codes(release) == {"7110"}


def test_unmapped_class_is_found(tmp_path: Path) -> None:
    mapped = GOOD + (
        '[[reference_maps]]\nname = "classes"\ndatabase = "cases"\nstrict = true\n'
        "unmapped = \"SELECT code, count(*) FROM a WHERE code = '' GROUP BY code\"\n"
        'codes = ["I-A", "II-B", "I"]\n'
    )
    release = good(tmp_path / "r", mapped)
    (release / "m/001.up.sql").write_text("UPDATE a SET b = '1' WHERE b IN ('I-A', 'II-B', 'I')")
    assert codes(release) == set()
    (release / "m/001.up.sql").write_text("UPDATE a SET b = '1' WHERE b IN ('I-A', 'II-B')")
    assert codes(release, "critical") == {"7123"}


def test_withdrawn_release_counts_as_the_previous_one(
    feed: Path, tmp_path: Path, keys: FeedKeys
) -> None:
    withdraw(feed, "ncen", "3.3.0", Withdrawal(reason="bad"), keys, clock)
    last = find_previous_release(FeedDirectory(feed), write_release(tmp_path / "next", "3.4.0"))
    assert last is not None
    assert last.document.manifest.version == "3.3.0"


def test_unreachable_withdrawn_release_imposes_no_requirements(
    feed: Path, tmp_path: Path, keys: FeedKeys
) -> None:
    # Seen: its migration failed at every site, and lint required it unchanged, for ever.
    newer = write_release(tmp_path / "next", "3.4.0", upgrade_from=">=3.2,!=3.3.0")
    last = find_previous_release(FeedDirectory(feed), newer)
    assert last is not None and last.document.manifest.version == "3.3.0"
    withdraw(feed, "ncen", "3.3.0", Withdrawal(reason="bad"), keys, clock)
    last = find_previous_release(FeedDirectory(feed), newer)
    assert last is None or last.document.manifest.version < "3.3.0"
    same = write_release(tmp_path / "same", "3.3.0", upgrade_from=">=3.2,!=3.3.0")
    last = find_previous_release(FeedDirectory(feed), same)
    assert last is not None and last.document.manifest.version == "3.3.0", "its number is used"


def test_feed_with_a_gap_is_no_base(feed: Path, tmp_path: Path) -> None:
    (feed / "metadata" / "1.root.json").rename(feed / "metadata" / "2.root.json")
    with refused(FEED_BROKEN, match="roots 1 to N"):
        find_previous_release(FeedDirectory(feed), write_release(tmp_path / "next", "3.4.0"))


def test_history_is_compared_with_the_published_release(tmp_path: Path) -> None:
    published = PreviousRelease(build_release(good(tmp_path / "r"), tmp_path / "s").document)

    def found(release: Path) -> set[str]:
        return {f.code[3:] for f in lint_release(release, published) if f.severity == "critical"}

    assert found(good(tmp_path / "next", version="3.4.0")) == set()
    assert found(good(tmp_path / "same")) == {"7103"}
    edited = good(tmp_path / "edited", version="3.4.0")
    (edited / "m/001.up.sql").write_text("ALTER TABLE a ADD c text")
    assert found(edited) == {"7106"}
    moved = good(tmp_path / "moved", GOOD.replace("m/001.up.sql", "m/1.up.sql"), version="3.4.0")
    (moved / "m/1.up.sql").write_bytes((moved / "m/001.up.sql").read_bytes())
    assert found(moved) == set()
    (moved / "m/1.up.sql").write_text("ALTER TABLE a ADD c text")
    assert found(moved) == {"7106"}, "the published file lies there, and is not the one that runs"
    gone = good(tmp_path / "gone", GOOD.replace('"001"', '"000"'), version="3.4.0")
    assert found(gone) == {"7107", "7108"}
