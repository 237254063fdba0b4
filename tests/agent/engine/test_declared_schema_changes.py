"""Applications that change their schema by themselves once they run, as their releases declare.

On both engines: what is declared is a note everywhere; everything else is found as
ever, what is planted beside it too; and no rollback is weaker for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from packaging.version import Version

from demo.databases import PostgresPlace
from demo.site import DemoSite, digests
from ncen_updater.agent.adapters.databases.base import LiveDatabase
from ncen_updater.agent.engine import adopt
from ncen_updater.agent.engine.observed_state import ADOPTED
from ncen_updater.agent.engine.schema_fingerprints import find_schema_drift, read_schemas
from ncen_updater.agent.model.change import Actor
from ncen_updater.agent.model.change_facts import ChangeFacts
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.reports.diagnostics.doctor import diagnose
from ncen_updater.agent.service.site_report import build_history_report
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.findings import Severity
from ncen_updater.common.messages import PREFLIGHT_BLOCKED
from ncen_updater.common.progress import SilentProgress
from ncen_updater.formats.manifest import SelfManagedObject
from tests.agent.engine.site_views import list_findings
from tests.agent.engine.trial_releases import (
    FIRST,
    execute,
    operations,
    rehearse,
    release,
    run_text,
    runs,
    served_feed,
    site_on,
)
from tests.support.errors import refused
from tests.support.rotation import either_engine
from tests.support.sites import TrialFeed, site_in_process

pytestmark = either_engine("demo")

DECLARES, SILENT, CODE, ONE_WAY, NEXT = "3.2.5", "3.2.6", "3.2.7", "3.2.8", "3.2.9"
KINDS = ("columns", "indexes")
#: What an application does in the background.
BACKGROUND = (
    "ALTER TABLE persons ADD COLUMN looked_at integer DEFAULT 0",
    "CREATE INDEX by_looked_at ON persons (looked_at, family_name)",
)
#: Undeclared changes, and the kind of each.
PLANTED = {
    "postgresql": {
        "functions": "CREATE FUNCTION mine(text) RETURNS text LANGUAGE sql IMMUTABLE"
        " AS 'SELECT $1'",
        "rules": "CREATE RULE mine AS ON DELETE TO persons DO ALSO NOTHING",
        "calling-indexes": "CREATE INDEX mine ON persons (ours(family_name))",
        "calling-constraints": "ALTER TABLE persons ADD CONSTRAINT mine"
        " CHECK (ours(family_name) IS NOT NULL) NOT VALID",
        "computed-columns": "ALTER TABLE persons ADD COLUMN mine text DEFAULT ours('a')",
        "views": "CREATE VIEW mine AS SELECT 1 AS one",
    },
    "sqlite": {
        "triggers": "CREATE TRIGGER mine AFTER UPDATE ON persons BEGIN SELECT 1; END",
        "calling-indexes": "CREATE INDEX mine ON persons (lower(family_name))",
        "computed-columns": "ALTER TABLE persons ADD COLUMN mine AS (lower(family_name))",
        "views": "CREATE VIEW mine AS SELECT 1 AS one",
    },
}
#: A function that the application has had all along.
OURS = "CREATE FUNCTION ours(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1'"


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TrialFeed, str]]:
    sources = tmp_path_factory.mktemp("sources")
    built = [
        release(sources, DECLARES, None, self_managed=KINDS),
        release(sources, SILENT, None),
        release(sources, CODE, None, compatibility=(1, 1), self_managed=KINDS),
        release(
            sources, ONE_WAY, None, self_managed=KINDS,
            one_way="CREATE TABLE came_with_one_way (id integer);",
        ),
        release(sources, NEXT, None),
    ]  # fmt: skip
    with served_feed(tmp_path_factory.mktemp("feed"), built) as found:
        yield found


@pytest.fixture(params=["sqlite", "postgresql"])
def demo(
    request: pytest.FixtureRequest, tmp_path: Path, feed: tuple[TrialFeed, str]
) -> Iterator[DemoSite]:
    with site_on(request, tmp_path, feed, schema_number=1) as site:
        yield site


def run_on(demo: DemoSite, *statements: str) -> None:
    for statement in statements:
        execute(demo.databases.address("suspects"), statement)


def codes(demo: DemoSite) -> set[str]:
    return {finding.code for finding in list_findings(demo)}


def is_noted_everywhere(demo: DemoSite) -> None:
    (note,) = list_findings(demo)
    assert (note.code, note.severity) == ("NU-6143", Severity.INFO)
    assert note.figures["kinds"] == ["columns", "indexes"]
    assert "NU-6106" not in {
        finding.code for finding in diagnose(demo.config_path, SilentProgress())
    }
    shown = run_text(demo, "verify")
    assert "NU-6143" in shown and "No other differences found." in shown
    rehearse(demo, NEXT)


def test_declared_schema_change_is_informational(demo: DemoSite) -> None:
    """Seen: an application that builds its indexes as designed ended in 'Do not upgrade'."""
    operations(demo).upgrade(Version(DECLARES))
    assert list_findings(demo) == []
    run_on(demo, *BACKGROUND)
    is_noted_everywhere(demo)
    operations(demo).upgrade(Version(NEXT))
    assert runs(demo) == NEXT
    assert list_findings(demo) == [], "the upgrade has recorded it"


def test_undeclared_schema_change_is_found_and_named(demo: DemoSite) -> None:
    operations(demo).upgrade(Version(SILENT))
    run_on(demo, *BACKGROUND)
    (finding,) = list_findings(demo)
    assert (finding.code, finding.severity) == ("NU-6106", Severity.CRITICAL)
    named = "Schema of suspects changed outside an upgrade: columns, indexes"
    assert str(finding.title) == named
    assert finding.figures["kinds"] == ["columns", "indexes"]
    assert "Have the change in suspects undone." in str(finding.remedy)
    with refused(PREFLIGHT_BLOCKED, match=r"NU-6106 .*columns, indexes"):
        rehearse(demo, NEXT)


def test_undeclared_change_beside_a_declared_one_is_found(demo: DemoSite) -> None:
    engine = "postgresql" if isinstance(demo.databases, PostgresPlace) else "sqlite"
    if engine == "postgresql":
        run_on(demo, OURS)
    operations(demo).upgrade(Version(DECLARES))
    run_on(demo, *BACKGROUND)
    for kind, statement in PLANTED[engine].items():
        run_on(demo, statement)
        (finding,) = list_findings(demo)
        assert finding.code == "NU-6106", statement
        assert kind in str(finding.figures["kinds"]), statement
        with refused(PREFLIGHT_BLOCKED, match="NU-6106"):
            rehearse(demo, NEXT)
        _take_away(demo, statement)
        assert codes(demo) == {"NU-6143"}, statement


def _take_away(demo: DemoSite, statement: str) -> None:
    what = statement.split()[1].lower()
    if statement.startswith("ALTER"):
        what = statement.split()[4].lower()
        run_on(demo, f"ALTER TABLE persons DROP {what} mine")
    elif what == "rule":
        run_on(demo, "DROP RULE mine ON persons")
    else:
        run_on(demo, f"DROP {what} mine")


@pytest.mark.parametrize("demo", ["postgresql"], indirect=True)
def test_new_rule_is_found_although_the_fingerprint_is_unchanged(demo: DemoSite) -> None:
    """It is code that runs for every write, and no fingerprint of the whole holds it."""
    operations(demo).upgrade(Version(SILENT))
    run_on(demo, PLANTED["postgresql"]["rules"])
    (finding,) = list_findings(demo)
    assert (finding.code, finding.figures["kinds"]) == ("NU-6106", ["rules"])


def test_journal_without_schema_kinds_is_read(demo: DemoSite) -> None:
    operations(demo).upgrade(Version(DECLARES))
    with Journal.open(demo.state / JOURNAL_FILE) as journal:
        journal.store_facts(journal.list_changes(1)[0].id, ChangeFacts(schema_kinds={}))
    assert list_findings(demo) == []
    run_on(demo, *BACKGROUND)
    (finding,) = list_findings(demo)
    assert finding.code == "NU-6106" and "kinds" not in finding.figures
    assert "Have the change in" in str(finding.remedy)


def test_newly_adopted_site_is_judged_equally(
    demo: DemoSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen: it frightened an integrator before the first upgrade."""
    site = site_in_process(demo)
    schemas = read_schemas(site.database_engine, LiveDatabase)
    document = site.slots.read_document(Version(FIRST))
    with Journal.open(demo.state / JOURNAL_FILE) as journal:
        # As 'adopt' writes it; the site of a test is taken over without looking.
        journal.record_event(
            ADOPTED, release=FIRST, generation=0,
            fingerprints=dict(schemas.fingerprints), schema_kinds=dict(schemas.kinds),
        )  # fmt: skip
    run_on(demo, *BACKGROUND)
    declared = document.manifest.model_copy(
        update={
            "databases": tuple(
                item.model_copy(update={"self_managed": tuple(map(SelfManagedObject, KINDS))})
                for item in document.manifest.databases
            )
        }
    )
    with Journal.open(demo.state / JOURNAL_FILE) as journal:
        for said_by, code in ((declared, "NU-6143"), (document.manifest, "NU-6106")):
            said = document.model_copy(update={"manifest": said_by})
            monkeypatch.setattr(site.slots, "read_document", lambda _version, said=said: said)
            (finding,) = find_schema_drift(site, journal)
            assert finding.code == code


def test_code_only_rollback_keeps_and_records_declared_changes(demo: DemoSite) -> None:
    operations(demo).upgrade(Version(CODE))
    assert list_findings(demo) == []
    run_on(demo, *BACKGROUND)
    is_noted_everywhere(demo)
    operations(demo).rollback()
    assert runs(demo) == FIRST and list_findings(demo) == []
    run_on(demo, "DROP INDEX by_looked_at")
    assert codes(demo) == {"NU-6106"}, "the release before declares nothing"


def test_restoring_previous_databases_removes_declared_changes(demo: DemoSite) -> None:
    before = digests(demo)
    operations(demo).upgrade(Version(ONE_WAY))
    run_on(demo, *BACKGROUND)
    assert codes(demo) == {"NU-6143"}
    operations(demo).rollback(accept_loss=100)
    assert runs(demo) == FIRST and list_findings(demo) == [] and digests(demo) == before


def test_two_approvers_accept_a_changed_schema_with_a_reason(demo: DemoSite) -> None:
    operations(demo).upgrade(Version(SILENT))
    run_on(demo, *BACKGROUND)
    site = site_in_process(demo)
    with Journal.open(demo.state / JOURNAL_FILE) as journal:
        for person, reason in ((Actor("amina", 1001), "for a report"), (Actor("bo", 1002), "so")):
            taken = adopt.inspect_restored(site, journal, Version(SILENT), SilentProgress())
            people = adopt.approve_restored(journal, taken, person, reason)
        assert taken.reasons == {"amina": "for a report"}
        adopt.adopt_restored(site, journal, taken, people)
        (told,) = cast(
            "list[dict[str, object]]", build_history_report(journal, 9)["adopted_restores"]
        )
    assert (told["version"], told["by"]) == (SILENT, ["amina", "bo"])
    assert told["reasons"] == ["for a report", "so"]
    assert list_findings(demo) == []
    assert "adopted as 3.2.6 by amina, bo: for a report; so" in run_text(demo, "history")
    run_on(demo, "DROP INDEX by_looked_at")
    (finding,) = list_findings(demo)
    assert finding.figures["kinds"] == ["indexes"], "what they said yes to is known by kinds"
