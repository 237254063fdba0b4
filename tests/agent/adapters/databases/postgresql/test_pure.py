"""Tests of decisions that need no server."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ncen_updater.agent.adapters.databases.base import ChangeEvidence, ChangeRef, DatabaseRole
from ncen_updater.agent.adapters.databases.postgresql.blockers import compute_margin, find_blockers
from ncen_updater.agent.adapters.databases.postgresql.catalogue import (
    DatabaseAttributes,
    DatabaseGrant,
    DatabaseRow,
    DatabaseSetting,
    ServerDisk,
    add_marker,
    build_statements,
    candidate_name,
    is_committed,
    is_copy_of,
    mark_committed,
    mark_copied,
    parse_marker,
    parse_name,
    previous_name,
    remove_copy_mark,
)
from ncen_updater.agent.adapters.databases.postgresql.connection import (
    format_setting_value,
    quote_literal,
    split_identifier_list,
)
from ncen_updater.agent.adapters.databases.postgresql.control_database import (
    CutOverEvent,
    CutOverRecord,
    choose_oid,
)
from ncen_updater.agent.adapters.databases.postgresql.copies import (
    build_create_statement,
    choose_copy_method,
    list_copies,
    make_copy_plan,
)
from ncen_updater.agent.adapters.databases.postgresql.cut_over import decide_evidence
from ncen_updater.agent.adapters.databases.postgresql.inspection import count_missing_keys
from ncen_updater.agent.adapters.databases.postgresql.rehearsal_copies import (
    build_empty_database_statement,
)
from ncen_updater.agent.adapters.databases.postgresql.survey import AgentRights, ServerSurvey
from ncen_updater.common.findings import Severity
from tests.agent.adapters.databases.postgresql.site import CHANGE

NAMES = {"a": "phys_a", "b": "phys_b"}


@pytest.mark.parametrize("own", [None, "", "mine", "two\nlines ]", "[ncen-updater is mine]"])
def test_marker_preserves_the_operators_comment(own: str | None) -> None:
    marked = add_marker(own, CHANGE)
    assert parse_marker(marked) is not None
    assert marked.startswith(own or "")
    copied = mark_copied(marked, CHANGE.id)
    assert is_copy_of(copied, CHANGE.id)
    assert not is_copy_of(copied, "zzzzzzzz")
    assert remove_copy_mark(copied) == marked
    assert remove_copy_mark(mark_copied(own, CHANGE.id)) == (own or None)
    newer = add_marker(copied, replace(CHANGE, generation=3))
    assert newer == add_marker(own, replace(CHANGE, generation=3))


def test_database_names_are_parsed() -> None:
    assert parse_name(candidate_name("phys_a", "abcdefgh"), NAMES) == (
        "abcdefgh",
        DatabaseRole.CANDIDATE,
        "a",
    )
    assert parse_name(previous_name("phys_b", "abcdefgh"), NAMES) == (
        "abcdefgh",
        DatabaseRole.PREVIOUS,
        "b",
    )
    for other in ("phys_a", "other__next_abcdefgh", "phys_a__next_ABCDEFGH", "phys_a__next_abc"):
        assert parse_name(other, NAMES) is None


@pytest.mark.parametrize(
    ("stored", "items"),
    [
        ('"$user", public', ["$user", "public"]),
        ('"a ""b""", "c, d"', ['a "b"', "c, d"]),
        ('""', [""]),
        ("pg_catalog", ["pg_catalog"]),
    ],
)
def test_identifier_lists_are_split(stored: str, items: list[str]) -> None:
    assert split_identifier_list(stored) == items


def test_setting_values_are_quoted() -> None:
    assert quote_literal("it's") == "'it''s'"
    assert quote_literal("a\\'") == "E'a\\\\'''"
    assert format_setting_value("search_path", '"$user", "my schema"') == "'$user', 'my schema'"
    assert format_setting_value("myapp.list", "a, b") == "'a, b'"


@pytest.mark.parametrize(
    ("provider", "statement"),
    [
        (("c", None, None), ""),
        (("i", "en", None), " LOCALE_PROVIDER icu ICU_LOCALE 'en'"),
        (("i", "en", "& a < 'g'"), " LOCALE_PROVIDER icu ICU_LOCALE 'en' ICU_RULES '& a < ''g'''"),
        (("b", "C.UTF-8", None), " LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'"),
    ],
)
def test_empty_database_has_the_locale_of_its_source(
    provider: tuple[str, str | None, str | None], statement: str
) -> None:
    row = ("ncen", "UTF8", "C", "C", "pg_default", *provider)
    assert build_empty_database_statement("copy", row) == (
        'CREATE DATABASE "copy" WITH TEMPLATE template0 OWNER "ncen" ENCODING \'UTF8\''
        f" LC_COLLATE 'C' LC_CTYPE 'C'{statement}"
    )


def test_copy_method_and_oid_are_chosen() -> None:
    assert choose_copy_method(14, 10**12, "auto") == "template"
    assert choose_copy_method(15, 10**6, "auto") == "wal-log"
    assert choose_copy_method(15, 10**9, "auto") == "file-copy"
    assert choose_copy_method(15, 10**9, "wal-log") == "wal-log"
    first = choose_oid("abcdefgh", "a", ())
    assert choose_oid("abcdefgh", "a", (first, first + 1)) == first + 2
    assert choose_oid("abcdefgi", "a", ()) != first


@pytest.mark.parametrize(
    ("major", "words"),
    [
        (14, 'CREATE DATABASE "phys_a__next_abcdefgh" WITH TEMPLATE "phys_a" OWNER "o"'
             " ALLOW_CONNECTIONS false"),
        (15, " STRATEGY wal_log"),
    ],
)  # fmt: skip
def test_create_statement_depends_on_the_server_version(major: int, words: str) -> None:
    plan = make_copy_plan(CHANGE, NAMES, {"a": 1, "b": 2}, (), major, copy_method="auto")
    statement = build_create_statement(list_copies(plan)[0], "o")
    assert statement.endswith(words)
    assert ("OID" in statement) == (major > 14)


def test_attributes_are_restored_by_statements() -> None:
    wanted = DatabaseAttributes(
        "o",
        False,
        (DatabaseGrant("", "CONNECT", False), DatabaseGrant("r", "TEMPORARY", True)),
        (DatabaseSetting("", "a.b", "1"),),
    )
    present = DatabaseAttributes(
        "x", True, (DatabaseGrant("x", "CREATE", False),), (DatabaseSetting("r", "work_mem", "1"),)
    )
    assert build_statements("d", wanted, present) == [
        'ALTER DATABASE "d" OWNER TO "o"',
        'ALTER DATABASE "d" IS_TEMPLATE false',
        'REVOKE ALL ON DATABASE "d" FROM PUBLIC',
        'REVOKE ALL ON DATABASE "d" FROM "r"',
        'REVOKE ALL ON DATABASE "d" FROM "x"',
        'GRANT CONNECT ON DATABASE "d" TO PUBLIC',
        'GRANT TEMPORARY ON DATABASE "d" TO "r" WITH GRANT OPTION',
        'ALTER ROLE "r" IN DATABASE "d" RESET "work_mem"',
        'ALTER DATABASE "d" SET "a"."b" TO \'1\'',
    ]


def row(
    name: str, *, allow: bool = True, limit: int = -1, comment: str | None = None
) -> DatabaseRow:
    return DatabaseRow(1, name, "o", allow, limit, False, comment)


def found(*rows: DatabaseRow) -> dict[str, DatabaseRow]:
    return {r.name: r for r in rows}


LIVE = (row("phys_a"), row("phys_b"))
OTHER = replace(CHANGE, id="bbbbbbbb")
OTHERS = tuple(row(p, comment=add_marker(None, OTHER)) for p in NAMES.values())
LATER = tuple(
    row(p, comment=add_marker(None, replace(OTHER, generation=3))) for p in NAMES.values()
)
COMMITTED = tuple(
    row(p, comment=mark_committed(add_marker("theirs", CHANGE))) for p in NAMES.values()
)
MARKED = tuple(row(p, comment=add_marker(None, CHANGE)) for p in NAMES.values())


@pytest.mark.parametrize(
    ("rows", "event", "expected"),
    [
        (LIVE, None, ChangeEvidence(False, False)),
        (LIVE, CutOverEvent.CUT_OVER, ChangeEvidence(True, False)),
        (LIVE, CutOverEvent.REVERTED, ChangeEvidence(False, False)),
        (MARKED, None, ChangeEvidence(True, False)),
        (MARKED, CutOverEvent.REVERTED, ChangeEvidence(False, False)),
        (MARKED, CutOverEvent.COMMITTED, ChangeEvidence(True, False, committed=True)),
        (LIVE, CutOverEvent.COMMITTED, ChangeEvidence(True, False, committed=True)),
        (OTHERS, None, ChangeEvidence(False, False, superseded=True)),
        (LATER, CutOverEvent.CUT_OVER, ChangeEvidence(True, False, superseded=True)),
        (COMMITTED, None, ChangeEvidence(True, False, committed=True)),
        ((COMMITTED[0], LIVE[1]), CutOverEvent.CUT_OVER,
         ChangeEvidence(True, False, committed=True)),
        ((MARKED[0], LIVE[1]), None, ChangeEvidence(False, False)),
        ((row("phys_a", allow=False), LIVE[1]), None, ChangeEvidence(False, True)),
        ((row("phys_a", limit=-2), LIVE[1]), None,
         ChangeEvidence(False, False, missing=("phys_a",))),
        ((row(candidate_name("phys_a", CHANGE.id)),), None,
         ChangeEvidence(False, False, candidates=("a",), missing=("phys_a", "phys_b"))),
        ((*LIVE, row(previous_name("phys_b", CHANGE.id))), None,
         ChangeEvidence(False, False, previous=("b",))),
    ],
)  # fmt: skip
def test_evidence_is_decided(
    rows: tuple[DatabaseRow, ...],
    event: CutOverEvent | None,
    expected: ChangeEvidence,
) -> None:
    record = CutOverRecord(event, {}) if event else None
    assert decide_evidence(CHANGE, NAMES, found(*rows), record) == expected


def test_commit_is_marked_in_the_comment() -> None:
    plain = add_marker("theirs", CHANGE)
    said = mark_committed(plain)
    assert said is not None
    assert (is_committed(plain, CHANGE.id), is_committed(said, CHANGE.id)) == (False, True)
    assert not is_committed(said, OTHER.id)
    assert parse_marker(said) == parse_marker(plain)
    assert mark_committed(said) == said
    assert add_marker(said, CHANGE) == plain  # the next change begins without
    assert mark_committed("theirs") == "theirs"


def test_missing_keys_are_counted() -> None:
    assert count_missing_keys(iter([b"a", b"c", b"d"]), iter([b"b", b"c"])) == 2
    assert count_missing_keys(iter([]), iter([b"b"])) == 0
    assert count_missing_keys(iter([b"a"]), iter([])) == 1


ALL = AgentRights(True, True, True)
ROOM = (ServerDisk("/data", 10**12, ("a", "b"), has_wal=True),)
QUIET = ServerSurvey(15, "15.20", found(*LIVE), ALL, ROOM, {"a": 10, "b": 20}, {"a": "wal-log"})
LARGE = replace(QUIET, sizes={"a": 10**10, "b": 10**9}, methods={"a": "wal-log"})


def disks(**free: int) -> tuple[ServerDisk, ...]:
    """Disks by what is on them: ``a_b`` has two databases, ``log`` is the log's."""
    made = []
    for what, number in free.items():
        names = what.split("_")
        databases = tuple(name for name in names if name != "log")
        made.append(ServerDisk(f"/{what}", number, databases, has_wal="log" in names))
    return tuple(made)


@pytest.mark.parametrize(
    ("seen", "change", "codes"),
    [
        (QUIET, CHANGE, []),
        (replace(QUIET, major=13), CHANGE, ["NU-4133"]),
        (replace(QUIET, major=19), CHANGE, ["NU-4133"]),
        (replace(QUIET, disks=()), CHANGE, ["NU-4125"]),
        (replace(QUIET, disks=disks(a_b=10**12, log=5)), CHANGE, ["NU-4124"]),
        (replace(QUIET, disks=disks(a_b_log=10)), CHANGE, ["NU-4124"]),
        (replace(QUIET, disks=disks(a_log=10**12, b=10)), CHANGE, ["NU-4124"]),
        (replace(QUIET, disks=disks(a_log=10, b=10)), CHANGE, ["NU-4124", "NU-4124"]),
        (replace(QUIET, disks=disks(a=10**12)), CHANGE, ["NU-4125"]),
        (replace(LARGE, disks=disks(a=12 * 10**9, b_log=11_268_435_455)), CHANGE, ["NU-4124"]),
        (replace(LARGE, disks=disks(a=12 * 10**9, b_log=11_268_435_456)), CHANGE, []),
        (replace(LARGE, disks=disks(a=12 * 10**9 - 1, b_log=10**12)), CHANGE, ["NU-4124"]),
        (replace(QUIET, databases=found(LIVE[0])), CHANGE, ["NU-4134"]),
        (QUIET, ChangeRef("abcdefgh", 2, "1", retained_from="bbbbbbbb"),
         ["NU-4134", "NU-4134"]),
        (replace(QUIET, databases=found(row("phys_a", limit=-2), LIVE[1])), CHANGE, ["NU-4131"]),
        (replace(QUIET, collations=[("phys_a", "2.36", "2.41")]), CHANGE, ["NU-4129"]),
        (replace(QUIET, rights=AgentRights(False, False, False, False, ("o",), (("d", "r", "s"),))),
         CHANGE, ["NU-4126", "NU-4136", "NU-4127", "NU-4128", "NU-4135"]),
    ],
)  # fmt: skip
def test_blocker_rules_have_their_finding(
    seen: ServerSurvey, change: ChangeRef, codes: list[str]
) -> None:
    findings = find_blockers(seen, change, NAMES, application_stopped=False)
    assert [finding.code for finding in findings] == codes
    for finding in findings:
        assert str(finding.title)
        assert str(finding.remedy)


def test_unknown_disk_space_asks_for_a_grant_only_where_that_helps() -> None:
    """Seen: "run as superuser: GRANT pg_read_all_settings", which was granted already."""
    for hidden in (True, False):
        seen = replace(QUIET, disks=(), hides_disks=hidden)
        (finding,) = find_blockers(seen, CHANGE, NAMES, application_stopped=False)
        assert ("GRANT pg_read_all_settings" in str(finding.remedy)) is hidden


def test_missing_disk_space_names_its_path() -> None:
    seen = replace(LARGE, disks=disks(a_b=12 * 10**9, log=10**12))
    (finding,) = find_blockers(seen, CHANGE, NAMES, application_stopped=False)
    assert (finding.code, finding.severity) == ("NU-4124", Severity.CRITICAL)
    needed = 11 * 10**9 + compute_margin(11 * 10**9)
    assert finding.figures == {
        "path": "/a_b", "needed_bytes": needed, "free_bytes": 12 * 10**9,
        "missing_bytes": needed - 12 * 10**9,
    }  # fmt: skip
    assert compute_margin(10**10) == 2 * 10**9


@pytest.mark.parametrize(
    ("others", "codes"), [({"/a_b": 5, "/log": 6}, []), ({"/a_b": 6}, ["NU-4124"])]
)
def test_later_space_of_the_change_is_added_on_a_shared_disk(
    others: dict[str, int], codes: list[str]
) -> None:
    """A slot and the copies on one disk were judged apart: each fitted, both did not."""
    needed = 11 * 10**9 + compute_margin(11 * 10**9)
    found = find_blockers(
        replace(LARGE, disks=disks(a_b=needed + 5, log=10**12)), CHANGE, NAMES,
        application_stopped=False, other_bytes=lambda path: others.get(str(path), 0),
    )  # fmt: skip
    assert [finding.code for finding in found] == codes


def test_replication_slots_and_subscriptions_are_named() -> None:
    seen = replace(QUIET, replication_slots=[("phys_a", "cdc")], subscriptions=[("phys_b", "sub")])
    found = find_blockers(seen, CHANGE, NAMES, application_stopped=False)
    assert [finding.code for finding in found] == ["NU-4122", "NU-4123"]
    assert {finding.severity for finding in found} == {Severity.CRITICAL}
    assert [finding.figures["objects"] for finding in found] == ["cdc", "sub"]
    assert not find_blockers(seen, replace(CHANGE, no_copy=True), NAMES, application_stopped=False)


def test_overlong_name_is_found() -> None:
    names = {"a": "x" * 49}
    seen = replace(QUIET, databases=found(row("x" * 49)))
    (finding,) = find_blockers(seen, CHANGE, names, application_stopped=False)
    assert (finding.code, finding.figures["length"]) == ("NU-4130", 64)
