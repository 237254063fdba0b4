"""Tests of weakened protection: schedules, ceremonies and products."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from demo.release_flow import publish_release
from ncen_updater.formats.errors import ManifestError
from ncen_updater.formats.manifest import Manifest, parse_manifest
from ncen_updater.publisher.cli.main import run
from ncen_updater.publisher.new.trial import FeedKeys, create_feed
from ncen_updater.publisher.review.statement_marks import StatementKind, find_marks
from ncen_updater.publisher.review.weakened_protection import check_waves, find_release_warnings
from tests.publisher.releases import clock, write_release
from tests.publisher.test_cli import SignerCli, signer

__all__ = ["signer"]

DRAFTED = datetime(2026, 11, 24, tzinfo=UTC)


def wave(day: str, percent: int, *countries: str) -> dict[str, Any]:
    return {"opens": f"{day}T08:00:00Z", "percent": percent, "countries": list(countries)}


@pytest.mark.parametrize(
    ("waves", "expected"),
    [
        ([], []),
        ([wave("2026-12-01", 100)], []),
        ([wave("2026-12-01", 10), wave("2026-12-05", 100)], []),
        ([wave("2026-12-05", 100), wave("2026-12-01", 10)], []),
        ([wave("2026-12-01", 100, "MU")], []),
        ([wave("2026-12-01", 20, "MU"), wave("2026-12-05", 100)], []),
        ([wave("2020-01-01", 100)], ["in the past"]),
        ([wave("2026-11-23", 100)], []),
        ([wave("2026-12-01", 50)], ["end at 50 %"]),
        ([wave("2026-12-01", 50), wave("2026-12-05", 20)], ["has no effect", "end at 50 %"]),
        ([wave("2026-12-01", 50), wave("2026-12-05", 20, "MU")], ["has no effect", "end at 50"]),
        ([wave("2026-12-01", 100, "MU"), wave("2026-12-01", 30, "SN")], ["end at 30 %"]),
    ],
)
def test_unusual_schedules_are_marked(waves: list[dict[str, Any]], expected: list[str]) -> None:
    found = [text.render() for text in check_waves("ncen 3.4.0", waves, DRAFTED)]
    assert len(found) == len(expected), found
    assert all(part in line for part, line in zip(expected, found, strict=True)), found


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("CREATE TABLE a (b int); CREATE UNIQUE INDEX i ON a (b); ALTER TABLE a ADD c text", []),
        ("CREATE TABLE a (b int REFERENCES c ON DELETE CASCADE ON UPDATE CASCADE)",
         [StatementKind.FOLLOWS]),
        ("COMMENT ON TABLE a IS 'DROP'; ALTER TABLE a ADD CHECK (b <> 'DELETE')",
         [StatementKind.BINDS]),
        ("CREATE TABLE a (role text, owner text, language text, \"user\" int)", []),
        ("CREATE INDEX i ON a (role); ALTER TABLE a ADD COLUMN type text DEFAULT 'owner'", []),
        ("CREATE TABLE a (role text); GRANT ALL ON a TO PUBLIC", [StatementKind.RIGHTS]),
        ("CREATE ROLE eve; CREATE SCHEMA s AUTHORIZATION eve", [StatementKind.RIGHTS] * 2),
        ("-- UPDATE a SET b = 1", []),
        ("/* x */ uPdAtE a SET b = 1", [StatementKind.CHANGES]),
        ("WITH x AS (DELETE FROM a RETURNING *) INSERT INTO b SELECT * FROM x",
         [StatementKind.DELETES, StatementKind.ADDS, StatementKind.CALLS]),
        ("INSERT INTO a VALUES (1) ON CONFLICT (b) DO UPDATE SET b = 1",
         [StatementKind.CHANGES, StatementKind.ADDS]),
        ("INSERT OR REPLACE INTO a VALUES (1)", [StatementKind.CHANGES, StatementKind.ADDS]),
        (
            "WITH x AS (SELECT 1) REPLACE INTO a SELECT * FROM x",
            [StatementKind.CHANGES, StatementKind.ADDS, StatementKind.CALLS],
        ),
        ("ALTER TABLE a ALTER b TYPE numeric", [StatementKind.CHANGES]),
        ("MERGE INTO a USING b ON true WHEN MATCHED THEN DO NOTHING", [StatementKind.CHANGES]),
        ("TRUNCATE a", [StatementKind.DELETES]),
        ("ALTER TABLE a ALTER b TYPE int USING 0", [StatementKind.CHANGES]),
        ("ALTER TABLE a RENAME TO b", [StatementKind.RENAMES]),
        ("DROP TABLE IF EXISTS audit_log", [StatementKind.DROPS]),
        ("ALTER TABLE a OWNER TO x", [StatementKind.RIGHTS]),
        ("ALTER TABLE a DISABLE ROW LEVEL SECURITY", [StatementKind.RIGHTS]),
        ("CREATE POLICY p ON a USING (true)", [StatementKind.RIGHTS]),
        ("ALTER TABLE a DISABLE TRIGGER t", [StatementKind.SWITCHES]),
        ("CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS $$ DELETE FROM a $$",
         [StatementKind.CODE]),
        ("DO $$ BEGIN DELETE FROM a; END $$", [StatementKind.CODE]),
        ("CREATE EXTENSION dblink", [StatementKind.CODE]),
        ("COPY a FROM PROGRAM 'curl x'", [StatementKind.CODE]),
        ("CREATE EVENT TRIGGER t ON ddl_command_end EXECUTE FUNCTION f()",
         [StatementKind.BY_ITSELF]),
        ("CREATE RULE r AS ON INSERT TO a DO INSTEAD NOTHING", [StatementKind.BY_ITSELF]),
        ("CREATE CAST (a AS text) WITH FUNCTION f(a)", [StatementKind.CODE]),
        ("SELECT pg_reload_conf()", [StatementKind.CALLS]),
        ("SET LOCAL search_path = x", [StatementKind.OTHER]),
        ("NOTIFY x", [StatementKind.OTHER]),
    ],
)  # fmt: skip
def test_statement_effects_are_classified(sql: str, expected: list[StatementKind]) -> None:
    found = find_marks(sql, ["sqlite" if "REPLACE INTO" in sql else "postgresql"])
    assert [kind for mark in found for kind in mark.kinds] == expected


def test_text_read_differently_by_two_engines_is_marked_for_both() -> None:
    hidden = "CREATE TABLE a (`x; UPDATE b SET c = 1; --` int)"
    assert find_marks(hidden, ["sqlite"]) == []
    found = find_marks(hidden, ["postgresql", "sqlite"])
    assert StatementKind.CHANGES in {kind for mark in found for kind in mark.kinds}


def test_several_keys_of_one_owner_are_reported(signer: SignerCli) -> None:
    signer.json("keys", "new", "amina", "--directory", signer.work / "other", *signer.pass_file)
    ceremony = signer.work / "ceremony.toml"
    head, roles, rest = ceremony.read_text().partition("[roles.ncen]")
    whole = signer.json("init", ceremony, "--event", signer.work / "one")
    assert not whole["critical"]
    halt_keys = '[emergency_halt_keys]\nkeys = ["{}/amina.pub.json"]\n'
    another = [head + roles + rest.replace("keys/amina", "other/amina", 1)]
    another.append(ceremony.read_text() + halt_keys.format("other"))
    for number, text in enumerate(another):
        ceremony.write_text(text)
        (said,) = signer.json("init", ceremony, "--event", signer.work / str(number))["critical"]
        assert "amina has several keys: " in said


@pytest.mark.parametrize("role", ["root", "targets", "ncen"])
def test_threshold_of_one_needs_consent(signer: SignerCli, role: str) -> None:
    ceremony = signer.work / "ceremony.toml"
    text = ceremony.read_text()
    at = text.index("threshold = 2", text.index(f"[roles.{role}]"))
    ceremony.write_text(f"{text[:at]}threshold = 1{text[at + 13 :]}")
    event = signer.work / "event"
    code, out, err = signer.run("init", ceremony, "--event", event)
    assert (code, out, event.exists()) == (3, "", False)
    assert "NU-7028" in err
    assert role in err
    code, out, _ = signer.run("init", ceremony, "--event", event, "--one-signature")
    assert code == 0
    assert "WARNING: " in out


def test_lint_runs_before_build_and_draft(
    signer: SignerCli, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = signer.work
    signer.json("init", work / "ceremony.toml", "--event", work / "e1")
    signer.sign_and_publish(work / "e1")
    release = write_release(work / "r")
    manifest = release / "manifest.toml"
    manifest.write_text('countries = ["XX"]\n' + manifest.read_text())
    build = ("build", release, "--staging", work / "s")
    code, _, err = signer.run(*build)
    assert code == 3
    assert "NU-7027" in err
    assert "NU-7140" in err
    assert not (work / "s").exists()
    # Anyone who built it with another program does not get it drafted either.
    monkeypatch.setattr(
        "ncen_updater.publisher.cli.releases.refuse_critical_findings", lambda *_: None
    )
    signer.json(*build)
    monkeypatch.undo()
    draft = ("draft", "--feed", work / "feed", "--staging", work / "s", "--event", work / "e2")
    code, _, err = signer.run(*draft)
    assert code == 3
    assert "NU-7140" in err
    assert not (work / "e2").exists()


@pytest.mark.parametrize(
    ("products", "code", "says"),
    [
        (("cargo",), 0, ""),
        (("cargo", "ncen-updater"), 0, ""),
        (("cargo", "crew"), 2, "cargo, crew"),
    ],
)
def test_only_product_is_the_default(
    tmp_path: Path,
    made: tuple[Path, FeedKeys],
    products: tuple[str, ...],
    code: int,
    says: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    create_feed(tmp_path / "feed", made[1], clock, products)
    release = write_release(tmp_path / "r", product="cargo")
    publish_release(tmp_path / "feed", [release], made[1], clock)
    halt = ["halt", "3.3.0", "--reason", "x", "--feed", str(tmp_path / "feed")]
    assert run([*halt, "--event", str(tmp_path / "e")]) == code
    assert says in capsys.readouterr().err
    assert run([*halt, "--event", str(tmp_path / "e2"), "--product", "cargoo"]) == 2
    said = capsys.readouterr().err
    assert "cargo" in said.partition("cargoo")[2], "the roles that there are"
    assert run([*halt, "--event", str(tmp_path / "e3"), "--product", "cargo"]) == 0


def warning_text(manifest: Manifest, before: Manifest | None) -> str:
    return " ".join(str(text) for text in find_release_warnings(manifest, before))


def test_declared_compatibility_and_its_reversibility_are_described() -> None:
    def made(version: str, *numbers: int) -> Manifest:
        data: dict[str, Any] = {
            "schema": 1, "product": "ncen", "version": version,
            "migrator": {"argv": ["bin/migrate"]},
        }  # fmt: skip
        if numbers:
            data["compatibility"] = {"schema_number": numbers[0], "compatible_down_to": numbers[1]}
        return parse_manifest(data, version)

    silent, old, new = made("1.0"), made("1.0", 93, 84), made("2.0", 94, 84)
    far = made("3.0", 95, 95)
    vouches, one_way = "compatible down to schema number 84", "loses records"
    assert vouches in warning_text(new, None) and one_way in warning_text(new, None)
    assert vouches in warning_text(new, silent) and one_way in warning_text(new, silent)
    assert vouches in warning_text(new, old) and one_way not in warning_text(new, old)
    same = made("2.1", 94, 84)
    assert vouches not in warning_text(same, new) and one_way not in warning_text(same, new)
    assert "number 95" in warning_text(far, new) and one_way in warning_text(far, new)


@pytest.mark.parametrize(("expand", "migrator"), [(True, True), (True, False), (False, True)])
def test_expand_program_needs_a_signer_decision(expand: bool, migrator: bool) -> None:
    data: dict[str, Any] = {
        "schema": 1, "product": "ncen", "version": "1.0",
        "compatibility": {"schema_number": 2, "compatible_down_to": 1, "expand": expand},
    }  # fmt: skip
    if migrator:
        data["migrator"] = {"argv": ["bin/migrate"]}
    said = warning_text(parse_manifest(data, "release"), None)
    assert ("before the downtime" in said) is (expand and migrator)


@pytest.mark.parametrize("later", [True, False])
def test_contract_program_needs_a_signer_decision(later: bool) -> None:
    data: dict[str, Any] = {"schema": 1, "product": "ncen", "version": "1.0"}
    data["migrator"] = {"argv": ["bin/migrate"]}
    if later:
        data["migrator"]["contract"] = {"argv": ["bin/finish", "--all"]}
    said = warning_text(parse_manifest(data, "release"), None)
    assert ("cannot be undone: bin/finish --all" in said) is later


@pytest.mark.parametrize("kinds", [["indexes", "indexes"], ["functions"], ["triggers"], ["all"]])
def test_code_only_cannot_be_declared(kinds: list[str]) -> None:
    databases = [{"name": "synapse", "self_managed": kinds}]
    data = {"schema": 1, "product": "synapse", "version": "1.0", "databases": databases}
    with pytest.raises(ManifestError, match="databases"):
        parse_manifest(data, "release")


def test_inconsistent_compatibility_is_refused() -> None:
    data = {
        "schema": 1, "product": "ncen", "version": "1.0",
        "compatibility": {"schema_number": 1, "compatible_down_to": 2},
    }  # fmt: skip
    with pytest.raises(ManifestError) as caught:
        parse_manifest(data, "release")
    assert "'compatible_down_to' must not exceed 'schema_number'" in str(caught.value.detail)
    data["compatibility"] = {"schema_number": 1, "compatible_down_to": 1, "expand": True}
    with pytest.raises(ManifestError) as caught:
        parse_manifest(data, "release")
    assert "'expand' needs" in str(caught.value.detail)
