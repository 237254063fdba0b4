"""The decisions that need no server."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ncen_updater.agent.adapters.databases.base import ChangeRef, DatabaseRole, Evidence
from ncen_updater.agent.adapters.databases.postgresql.blockers import find_blockers, margin
from ncen_updater.agent.adapters.databases.postgresql.catalogue import (
    Attributes,
    DatabaseRow,
    Disk,
    Grant,
    Setting,
    committed_comment,
    copied_comment,
    is_committed,
    is_copy_of,
    live_comment,
    next_name,
    original_comment,
    parse_marker,
    parse_name,
    prev_name,
    statements,
)
from ncen_updater.agent.adapters.databases.postgresql.connection import (
    literal,
    setting_value,
    split_list,
)
from ncen_updater.agent.adapters.databases.postgresql.control import (
    SwapEvent,
    SwapRecord,
    choose_oid,
)
from ncen_updater.agent.adapters.databases.postgresql.copying import (
    choose_method,
    copies,
    create_statement,
    make_plan,
)
from ncen_updater.agent.adapters.databases.postgresql.evidence import decide
from ncen_updater.agent.adapters.databases.postgresql.reading import count_lost
from ncen_updater.agent.adapters.databases.postgresql.survey import Rights, ServerSurvey
from ncen_updater.common.findings import Severity
from tests.agent.adapters.databases.postgresql.site import CHANGE

NAMES = {"a": "phys_a", "b": "phys_b"}


@pytest.mark.parametrize("own", [None, "", "mine", "two\nlines ]", "[ncen-updater is mine]"])
def test_comments_keep_the_operators_words(own: str | None) -> None:
    marked = live_comment(own, CHANGE)
    assert parse_marker(marked) is not None
    assert marked.startswith(own or "")
    copied = copied_comment(marked, CHANGE.id)
    assert is_copy_of(copied, CHANGE.id)
    assert not is_copy_of(copied, "zzzzzzzz")
    assert original_comment(copied) == marked
    assert original_comment(copied_comment(own, CHANGE.id)) == (own or None)
    newer = live_comment(copied, replace(CHANGE, generation=3))
    assert newer == live_comment(own, replace(CHANGE, generation=3))


def test_names() -> None:
    assert parse_name(next_name("phys_a", "abcdefgh"), NAMES) == (
        "abcdefgh",
        DatabaseRole.CANDIDATE,
        "a",
    )
    assert parse_name(prev_name("phys_b", "abcdefgh"), NAMES) == (
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
def test_stored_lists(stored: str, items: list[str]) -> None:
    assert split_list(stored) == items


def test_literals() -> None:
    assert literal("it's") == "'it''s'"
    assert literal("a\\'") == "E'a\\\\'''"
    assert setting_value("search_path", '"$user", "my schema"') == "'$user', 'my schema'"
    assert setting_value("myapp.list", "a, b") == "'a, b'"


def test_methods_and_numbers() -> None:
    assert choose_method(14, 10**12, "auto") == "template"
    assert choose_method(15, 10**6, "auto") == "wal-log"
    assert choose_method(15, 10**9, "auto") == "file-copy"
    assert choose_method(15, 10**9, "wal-log") == "wal-log"
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
def test_create(major: int, words: str) -> None:
    plan = make_plan(CHANGE, NAMES, {"a": 1, "b": 2}, (), major, wanted="auto")
    statement = create_statement(copies(plan)[0], "o")
    assert statement.endswith(words)
    assert ("OID" in statement) == (major > 14)


def test_attributes_become_statements() -> None:
    wanted = Attributes("o", False, (Grant("", "CONNECT", False), Grant("r", "TEMPORARY", True)),
                        (Setting("", "a.b", "1"),))  # fmt: skip
    present = Attributes(
        "x", True, (Grant("x", "CREATE", False),), (Setting("r", "work_mem", "1"),)
    )
    assert statements("d", wanted, present) == [
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
    return DatabaseRow(1, name, "o", allow, limit, False, comment, False)


def found(*rows: DatabaseRow) -> dict[str, DatabaseRow]:
    return {r.name: r for r in rows}


LIVE = (row("phys_a"), row("phys_b"))
OTHER = replace(CHANGE, id="bbbbbbbb")
OTHERS = tuple(row(p, comment=live_comment(None, OTHER)) for p in NAMES.values())
LATER = tuple(
    row(p, comment=live_comment(None, replace(OTHER, generation=3))) for p in NAMES.values()
)
COMMITTED = tuple(
    row(p, comment=committed_comment(live_comment("theirs", CHANGE))) for p in NAMES.values()
)
MARKED = tuple(row(p, comment=live_comment(None, CHANGE)) for p in NAMES.values())


@pytest.mark.parametrize(
    ("rows", "event", "expected"),
    [
        (LIVE, None, Evidence(False, False)),
        (LIVE, SwapEvent.OVER, Evidence(True, False)),
        (LIVE, SwapEvent.BACK, Evidence(False, False)),
        (MARKED, None, Evidence(True, False)),
        (MARKED, SwapEvent.BACK, Evidence(False, False)),
        (OTHERS, None, Evidence(False, False, later=True)),
        (LATER, SwapEvent.OVER, Evidence(True, False, later=True)),
        (COMMITTED, None, Evidence(True, False, committed=True)),
        ((COMMITTED[0], LIVE[1]), SwapEvent.OVER, Evidence(True, False, committed=True)),
        ((MARKED[0], LIVE[1]), None, Evidence(False, False)),
        ((row("phys_a", allow=False), LIVE[1]), None, Evidence(False, True)),
        ((row("phys_a", limit=-2), LIVE[1]), None, Evidence(False, False, missing=("phys_a",))),
        ((row(next_name("phys_a", CHANGE.id)),), None,
         Evidence(False, False, candidates=("a",), missing=("phys_a", "phys_b"))),
        ((*LIVE, row(prev_name("phys_b", CHANGE.id))), None,
         Evidence(False, False, previous=("b",))),
    ],
)  # fmt: skip
def test_evidence(
    rows: tuple[DatabaseRow, ...],
    event: SwapEvent | None,
    expected: Evidence,
) -> None:
    record = SwapRecord(event, {}) if event else None
    assert decide(CHANGE, NAMES, found(*rows), record) == expected


def test_the_word_of_the_control_database_is_enough() -> None:
    record = SwapRecord(SwapEvent.OVER, {})
    seen = decide(CHANGE, NAMES, found(*MARKED), record, committed=True)
    assert seen == Evidence(True, False, committed=True)


def test_a_commit_in_the_comment() -> None:
    plain = live_comment("theirs", CHANGE)
    said = committed_comment(plain)
    assert said is not None
    assert (is_committed(plain, CHANGE.id), is_committed(said, CHANGE.id)) == (False, True)
    assert not is_committed(said, OTHER.id)
    assert parse_marker(said) == parse_marker(plain)
    assert committed_comment(said) == said
    assert live_comment(said, CHANGE) == plain  # the next change begins without
    assert committed_comment("theirs") == "theirs"


def test_lost_keys() -> None:
    assert count_lost(iter([b"a", b"c", b"d"]), iter([b"b", b"c"])) == 2
    assert count_lost(iter([]), iter([b"b"])) == 0
    assert count_lost(iter([b"a"]), iter([])) == 1


ALL = Rights(True, True, True)
ROOM = (Disk("/data", 10**12, ("a", "b"), log=True),)
QUIET = ServerSurvey(15, "15.20", found(*LIVE), ALL, ROOM, {"a": 10, "b": 20}, {"a": "wal-log"})
LARGE = replace(QUIET, sizes={"a": 10**10, "b": 10**9}, methods={"a": "wal-log"})


def disks(**free: int) -> tuple[Disk, ...]:
    """Disks by what is on them: ``a_b`` has two databases, ``log`` is the log's."""
    made = []
    for what, number in free.items():
        names = what.split("_")
        databases = tuple(name for name in names if name != "log")
        made.append(Disk(f"/{what}", number, databases, log="log" in names))
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
        (QUIET, ChangeRef("abcdefgh", 2, "1", source="bbbbbbbb"),
         ["NU-4134", "NU-4134"]),
        (replace(QUIET, databases=found(row("phys_a", limit=-2), LIVE[1])), CHANGE, ["NU-4131"]),
        (replace(QUIET, collations=[("phys_a", "2.36", "2.41")]), CHANGE, ["NU-4129"]),
        (replace(QUIET, rights=Rights(False, False, False, False, ("o",), (("d", "r", "s"),))),
         CHANGE, ["NU-4126", "NU-4136", "NU-4127", "NU-4128", "NU-4135"]),
    ],
)  # fmt: skip
def test_rules(seen: ServerSurvey, change: ChangeRef, codes: list[str]) -> None:
    findings = find_blockers(seen, change, NAMES, final=False)
    assert [finding.code for finding in findings] == codes
    for finding in findings:
        assert str(finding.what)
        assert str(finding.remedy)


def test_missing_room_is_told_with_its_place() -> None:
    seen = replace(LARGE, disks=disks(a_b=12 * 10**9, log=10**12))
    (finding,) = find_blockers(seen, CHANGE, NAMES, final=False)
    assert (finding.code, finding.severity) == ("NU-4124", Severity.STRICT)
    needed = 11 * 10**9 + margin(11 * 10**9)
    assert finding.figures == {
        "place": "/a_b", "needed_bytes": needed, "free_bytes": 12 * 10**9,
        "missing_bytes": needed - 12 * 10**9,
    }  # fmt: skip
    assert margin(10**10) == 2 * 10**9


def test_slots_and_subscriptions_are_refused_by_name() -> None:
    seen = replace(QUIET, slots=[("phys_a", "cdc")], subscriptions=[("phys_b", "sub")])
    found = find_blockers(seen, CHANGE, NAMES, final=False)
    assert [finding.code for finding in found] == ["NU-4122", "NU-4123"]
    assert {finding.severity for finding in found} == {Severity.STRICT}
    assert [finding.figures["objects"] for finding in found] == ["cdc", "sub"]
    assert not find_blockers(seen, replace(CHANGE, as_is=True), NAMES, final=False)


def test_long_names() -> None:
    names = {"a": "x" * 49}
    seen = replace(QUIET, databases=found(row("x" * 49)))
    (finding,) = find_blockers(seen, CHANGE, names, final=False)
    assert (finding.code, finding.figures["length"]) == ("NU-4130", 64)
