"""Tests of the dossier page: its content in both languages, and that no value is markup."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from ncen_updater.agent.adapters.databases.base import RollbackKind
from ncen_updater.agent.adapters.databases.round_trip import ColumnRoundTrip, RoundTripResult
from ncen_updater.agent.engine.approvals.approval import Approval, ApprovalBasis
from ncen_updater.agent.engine.rehearsal.downtime_forecasts import DowntimeComparison
from ncen_updater.agent.engine.rehearsal.report import (
    ReferenceMapResult,
    RehearsalReport,
    RehearsedHop,
)
from ncen_updater.agent.policy.downtime_prediction import DowntimeRange
from ncen_updater.agent.reports.command_results import format_rehearsal_lines
from ncen_updater.agent.reports.dossier import render_dossier
from ncen_updater.agent.reports.dossier.facts import (
    Dossier,
    DossierHop,
)
from ncen_updater.agent.reports.dossier.page import (
    build_downtime_ranges,
    format_verdict,
    list_risks,
)
from ncen_updater.common.cli.render import group_digest
from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import LazyText
from ncen_updater.formats.manifest import ReleaseNotes
from tests.support.webdriver import browser, missing

AT = datetime(2026, 11, 24, 9, tzinfo=UTC)
REPORT = RehearsedHop(
    from_version="3.2.4",
    to_version="3.3.0",
    copy_s=2.0,
    migrate_s=4.0,
    rollback_s=3.0,
    rollback_path=RollbackKind.KEEPS_RECORDS,
    checks={"cases": (200, 200), "persons": (90, 90)},
    reference_maps=(ReferenceMapResult("CITES class", "seizures", 212, (("C10", 3),)),),
    changed_tables={
        "seizures": {
            "items": (200, 212),
            "objects": (-1, 0),
            "old": (7, -1),
            "ncen_kept__objects": (-1, 4),
        }
    },
    downtime=DowntimeRange(5.0, 9.0, 75.0, from_history=True),
)
HOP = DossierHop(
    origin="3.2.4",
    version="3.3.0",
    required=False,
    urgency="normal",
    notes={
        "en": ReleaseNotes(title="New CITES classes", text="First paragraph.\n\nSecond."),
        "fr": ReleaseNotes(title="Nouvelles classes CITES", text="Premier alinéa."),
    },
    rollback_kind=RollbackKind.KEEPS_RECORDS,
    irreversible_migrations=(),
    migrations=5,
    unpacked_bytes=9_000_000,
    report=REPORT,
    sql="BEGIN;\nUPDATE items SET code = 'C10' WHERE code < 'C2';\nCOMMIT;\n",
)

DOSSIER = Dossier(
    site="mu-port-louis",
    country="MU",
    product="ncen",
    agent="0.3.0",
    made_at=AT,
    zone=UTC,
    current="3.2.4",
    target="3.3.0",
    hops=(HOP,),
    findings=(Finding("NU-6302", Severity.INFO, LazyText("There is room."), LazyText("")),),
    sizes={"seizures": 5_000_000, "suspects": 2_000_000},
    rehearsed_at=AT,
    rehearsal="abcdefgh",
    rehearsal_expires_at=AT + timedelta(days=14),
    backup_s=6.0,
    past_predictions=(DowntimeComparison("3.2.4", 3.0, 9.0, 4.0),),
    not_before=None,
    window_opens_at=AT + timedelta(hours=13),
    window_closes_at=AT + timedelta(hours=19),
    needs_no_approval=False,
    approvals=(Approval("0" * 64, "amina", 1001, AT),),
    required_approvals=2,
    basis=ApprovalBasis(
        "a" * 64, {"seizures": "b" * 64, "suspects": "c" * 64}, "d" * 64, "abcdefgh:ee"
    ),
    retention_days=7,
    soak_s=900,
    rolls_back_automatically=True,
)
HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(2)>&amp;\"'</style></table>"
    "<!-- ]]> \u202egnp.exe \x1b[31m \x00 \ud800 {target} {0.__class__}"
)
TAGS = {
    "html", "head", "meta", "title", "style", "body", "div", "p", "h1", "h2", "h3", "ul", "li",
    "code", "table", "thead", "tbody", "tr", "th", "td", "pre", "svg", "circle", "line",
    "text",
}  # fmt: skip


class Reader(HTMLParser):
    """Reads a page as a browser does, and keeps what it is made of."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.words: list[str] = []
        self.feed(content.decode("utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def hostile(value: Any) -> Any:
    """The same facts, with every text in them hostile."""
    if isinstance(value, str):
        return HOSTILE
    if isinstance(value, LazyText):
        return LazyText("{what}", {"what": HOSTILE})
    if isinstance(value, dict):
        return {
            (key if key in ("en", "fr") else f"{key}{HOSTILE}"): hostile(item)
            for key, item in value.items()
        }  # fmt: skip
    if isinstance(value, list | tuple) and not is_dataclass(value):
        return type(value)(hostile(item) for item in value)
    if isinstance(value, ReleaseNotes):
        return ReleaseNotes.model_construct(title=HOSTILE, text=HOSTILE)
    if is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in fields(value)]
        kept = {"severity", "rollback_kind"}
        return replace(
            value,
            **{name: hostile(getattr(value, name)) for name in names if name not in kept},
        )
    return value


def chosen(text: str) -> Iterator[str]:
    yield from re.findall(r"(?:src|href|url|@import)\s*[=(]", text)


@pytest.mark.parametrize("language", ["en", "fr"])
def test_hostile_values_are_escaped(language: str) -> None:
    content = render_dossier(hostile(DOSSIER), language)
    read = Reader(content)
    assert read.tags == TAGS
    assert read.attributes <= {
        "class", "lang", "dir", "charset", "name", "content", "http-equiv", "viewbox", "role", "x",
        "y", "width", "height", "x1", "y1", "x2", "y2", "cx", "cy", "r",
    }  # fmt: skip
    assert "<script>alert(1)</script><img src=x onerror=alert(2)>" in read.text
    assert "{target}" in read.text, "a value is never a template"
    for character in "\u202e\x1b\x00":
        assert character not in content.decode("utf-8")


@pytest.mark.parametrize("language", ["en", "fr"])
def test_page_is_self_contained_and_runs_nothing(language: str) -> None:
    content = render_dossier(DOSSIER, language).decode()
    assert "<script" not in content
    assert list(chosen(content)) == []
    assert "default-src 'none'" in content
    assert "@page { size: A4" in content


def test_page_contains_what_an_approver_needs() -> None:
    text = Reader(render_dossier(DOSSIER)).text
    for words in (
        "ncen: upgrade from 3.2.4 to 3.3.0",
        "about 9.0 s (at most 1 min 15 s)",
        "between 2026-11-24 22:00:00 UTC and 2026-11-25 04:00:00 UTC",
        "'CITES class': new code for 212 records.",
        "3 records without a new code: C10 (3)",
        "Data checks passed: 2",
        "UPDATE items SET code = 'C10' WHERE code < 'C2';",
        "Rollback rehearsed, 3.3.0 to 3.2.4: 3.0 s.",
        "New CITES classes",
        "amina 1001 2026-11-24",
        "1 of 2",
        "Approver Approver Director",
        "Total: 7.0 MB.",
        "ncen-updater approve 3.3.0 --dry-run",
    ):
        assert words in text, words
    assert "ncen_kept" not in text, "no table of the application"
    digest = DOSSIER.basis.compute_binding()
    assert digest in text.replace(" ", "")
    french = Reader(render_dossier(DOSSIER, "fr")).text
    assert "Nouvelles classes CITES" in french
    assert "New CITES classes" not in french


def test_digest_is_beside_the_signatures_and_on_each_page() -> None:
    content = render_dossier(DOSSIER).decode()
    digest = DOSSIER.basis.compute_binding()
    sheet = content[content.index(">Decision<") : content.index('class="annex"')]
    assert group_digest(digest) in sheet
    assert "Signature" in sheet
    assert f'@bottom-left {{ content: "{group_digest(digest[:32])}"' in content


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", "preserves 12 sample values, the next upgrade restores 3"),
        ("fr", "12 valeurs d'essai conservées par le retour arrière ; rétablies par"),
    ],
)
def test_round_trip_result_is_described(language: str, words: str) -> None:
    tried = RoundTripResult(
        (
            ColumnRoundTrip("seizures.items.code", preserved=12, restored=3),
            ColumnRoundTrip("seizures.items.note", lost=2),
        )
    )
    hop = replace(HOP, report=replace(REPORT, round_trip=tried))
    said = Reader(render_dossier(replace(DOSSIER, hops=(hop,)), language)).text
    assert words in said
    # Never a number alone: the page also states that records are kept.
    count = {"en": "2 sample values in", "fr": "2 valeurs d'essai dans"}
    assert f"{count[language]} seizures.items.note" in said
    assert words not in Reader(render_dossier(DOSSIER, language)).text


def test_numbers_and_dates_use_the_format_of_the_language() -> None:
    text = Reader(render_dossier(DOSSIER, "fr")).text
    for words in ("9,0 s (1 min 15 s au plus)", "7,0 Mo", "24/11/2026 à 22:00:00 UTC"):
        assert words in text, words
    for words in ("5.0 s", "7.0 MB", "2026-11-24"):
        assert words not in text, words


def test_predictions_are_drawn_beside_measured_downtimes() -> None:
    drawn = build_downtime_ranges(DOSSIER)
    assert [(item.name, item.left, item.mark, item.right, item.is_measured) for item in drawn] == [
        ("3.2.4", 4.0, 5.33, 12.0, True), ("3.3.0", 6.67, 12.0, 100.0, False),
    ]  # fmt: skip
    late = replace(DOSSIER, past_predictions=(DowntimeComparison("3.2.4", 3.0, 9.0, 150.0),))
    assert [item.mark for item in build_downtime_ranges(late)] == [100.0, 6.0]
    many = replace(DOSSIER, past_predictions=tuple(DOSSIER.past_predictions) * 20)
    assert len(build_downtime_ranges(many)) == 9
    assert (
        build_downtime_ranges(
            replace(DOSSIER, hops=(replace(HOP, report=None),), past_predictions=())
        )
        == ()
    )


def test_french_page_has_no_english_sentence() -> None:
    """Every sentence of the page differs, but for names, digests and commands."""
    both = [Reader(render_dossier(DOSSIER, language)).words for language in ("en", "fr")]
    english, french = ({words.strip() for words in found} for found in both)
    same = {words for words in english & french if re.search(r"[a-z]{3,} [a-z]{3,}", words)}
    assert same <= {"There is room.", "ncen-updater approve 3.3.0 --dry-run"} | {
        words for words in same if "{" in words
    }


@pytest.mark.parametrize(
    ("name", "facts", "words"),
    [
        ("loses", replace(DOSSIER, hops=(
            replace(HOP, rollback_kind=RollbackKind.RESTORES_PREVIOUS),)), "loses"),
        ("no target", DOSSIER, "3 records have no new code"),
        ("differs", replace(DOSSIER, hops=(
            replace(HOP, report=replace(REPORT, rollback_differences=("seizures.items",))),)),
            "seizures.items"),
        ("guessed", replace(DOSSIER, hops=(replace(HOP, report=replace(
            REPORT, downtime=replace(REPORT.downtime, from_history=False))),)), "partly estimated"),
        ("missed", replace(DOSSIER, past_predictions=(DowntimeComparison("3.2.4", 3.0, 4.0, 9.0),)),
            "missed: 1 of 1"),
        ("two hops", replace(DOSSIER, hops=(HOP, HOP)), "Releases on the path: 2"),
    ],
)  # fmt: skip
def test_each_risk_is_named(name: str, facts: Dossier, words: str) -> None:
    assert any(words in str(text) for text in list_risks(facts)), name
    assert render_dossier(facts)


def test_verdict_is_one_line() -> None:
    blocker = Finding("NU-6301", Severity.CRITICAL, LazyText("No room."), LazyText(""))
    unknown = replace(DOSSIER, rehearsed_at=None, hops=(replace(HOP, report=None),))
    for facts, verdict in (
        (replace(unknown, findings=(blocker,)), "Blocked by preflight checks"),
        (replace(unknown, findings=()), "No rehearsal"),
        (replace(DOSSIER, findings=()), "Ready for approval"),
    ):
        assert str(format_verdict(facts)).startswith(verdict)
        assert verdict in Reader(render_dossier(facts)).text


def test_harmless_upgrade_has_no_risks() -> None:
    calm = replace(REPORT, reference_maps=())
    assert list_risks(replace(DOSSIER, hops=(replace(HOP, report=calm),))) == ()


@pytest.mark.parametrize(
    ("language", "name"), [("en", "CITES class"), ("fr", "Classe CITES"), ("pt", "CITES class")]
)
def test_reference_map_names_are_in_the_language_of_the_reader(language: str, name: str) -> None:
    """Seen: the English name in the French output of ``rehearse``."""
    (mapped,) = REPORT.reference_maps
    named = replace(REPORT, reference_maps=(replace(mapped, names={"fr": "Classe CITES"}),))
    stored = RehearsedHop.from_json(json.loads(json.dumps(named.to_json())))
    facts = replace(DOSSIER, hops=(replace(HOP, report=stored),))
    assert name in Reader(render_dossier(facts, language)).text
    report = RehearsalReport(plan="p", backup_s=1.0, hops=(stored,))
    record = {"from": "3.2.4", "to": "3.3.0", "report": report.to_json()}
    lines = [
        line.render(language) if isinstance(line, LazyText) else line
        for line in format_rehearsal_lines(record, language)
    ]
    assert any(name in line for line in lines), lines
    # Seen: "table ncen_kept__objects: 1 rows before, 0 after", as if a record were lost.
    assert not any("ncen_kept" in line for line in lines), lines


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
@pytest.mark.parametrize("language", ["en", "fr"])
def test_dossier_fits_a_telephone(language: str, tmp_path: Path) -> None:
    """Seen in the console at 360 pixels: a column of the downtimes was cut off."""
    page = tmp_path / "dossier.html"
    page.write_bytes(render_dossier(DOSSIER, language))
    with browser(language=language) as person:
        person.open(page.as_uri())
        person.width(318)
        assert not person.overflows()
