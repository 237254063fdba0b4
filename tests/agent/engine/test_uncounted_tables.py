"""Tests of tables declared as no records: their loss is reported and needs no consent."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from packaging.version import Version

from demo.releases import assemble
from demo.site import DemoSite
from ncen_updater.agent.engine.rollback_plan import split_uncounted
from ncen_updater.agent.model.change import StepName, StepPhase
from ncen_updater.common.messages import RECORDS_WOULD_BE_LOST
from ncen_updater.formats.errors import ManifestError
from ncen_updater.formats.manifest import parse_manifest
from tests.agent.engine.trial_releases import (
    FIRST,
    execute,
    operations,
    run_text,
    runs,
    served_feed,
    site_on,
)
from tests.support.errors import refused
from tests.support.rotation import either_engine
from tests.support.sites import TrialFeed

ONE_WAY = "3.3.9"


@pytest.fixture(scope="module")
def feed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TrialFeed, str]]:
    made = assemble(ONE_WAY, tmp_path_factory.mktemp("sources") / ONE_WAY)
    manifest = made / "manifest.toml"
    text = manifest.read_text("utf-8")
    name = 'name = "suspects"\n'
    assert text.count(name) == 1
    manifest.write_text(
        text.replace(name, f'{name}tables_without_records = ["identity_*"]\n'), "utf-8"
    )
    with served_feed(tmp_path_factory.mktemp("feed"), [made], [FIRST]) as found:
        yield found


@pytest.fixture(params=["sqlite", "postgresql"])
def demo(
    request: pytest.FixtureRequest, tmp_path: Path, feed: tuple[TrialFeed, str]
) -> Iterator[DemoSite]:
    with site_on(request, tmp_path, feed) as site:
        yield site


def enter(demo: DemoSite, number: int) -> None:
    execute(
        demo.databases.address("suspects"),
        "INSERT INTO persons (person_ref, family_name, workflow_state)"
        f" VALUES ('LATER-{number}', 'entered later', 'new')",
    )


def touch(demo: DemoSite) -> None:
    execute(
        demo.databases.address("suspects"),
        "UPDATE identity_documents SET number = 'later'"
        " WHERE id = (SELECT min(id) FROM identity_documents)",
    )


@either_engine("demo")
def test_only_records_are_counted_and_the_rest_is_reported(demo: DemoSite) -> None:
    operations(demo).upgrade(Version(ONE_WAY))
    with refused(RECORDS_WOULD_BE_LOST) as nothing:  # seen: "at least 0 records ... since ()"
        operations(demo).rollback()
    assert "at least 0 records (none)" in str(nothing.value)
    enter(demo, 1)
    touch(demo)
    with refused(RECORDS_WOULD_BE_LOST) as caught:
        operations(demo).rollback()
    assert caught.value.values["count"] == 1
    passed = f"not counted as records by {ONE_WAY}: suspects.identity_documents 1"
    for words in ([], ["--accept-loss", "1"]):
        told = " ".join(run_text(demo, "rollback", "--dry-run", *words).split())
        assert "suspects.persons 1" in told and passed in told

    document = json.loads(run_text(demo, "--quiet", "rollback", "--dry-run", "--json"))
    assert (document["error"]["code"], document["lost_total"]) == ("NU-6015", 1)

    def one_more_row(step: StepName, phase: StepPhase) -> None:
        if (step, phase) == (StepName.MAINTENANCE_ON, StepPhase.BEFORE_EFFECT):
            touch(demo)

    operations(demo, one_more_row).rollback(accept_loss=1)
    assert runs(demo) == FIRST


@pytest.mark.parametrize(
    ("patterns", "records", "uncounted"),
    [
        ((), {"a": {"b": 1, "c.b": 2, "bank": 3}}, {}),
        (("bank",), {"a": {"b": 1, "c.b": 2}}, {"a": {"bank": 3}}),
        (("c.b",), {"a": {"b": 1, "bank": 3}}, {"a": {"c.b": 2}}),
        (("c.*", "bank"), {"a": {"b": 1}}, {"a": {"c.b": 2, "bank": 3}}),
    ],
)
def test_uncounted_tables_are_separated(
    patterns: Sequence[str],
    records: Mapping[str, Mapping[str, int]],
    uncounted: Mapping[str, Mapping[str, int]],
) -> None:
    lost = {"a": {"b": 1, "c.b": 2, "bank": 3}}
    found = split_uncounted(lost, {"a": patterns, "other": ("*",)})
    assert (found.records, found.uncounted) == (records, uncounted)


def test_object_of_an_uncounted_table_is_uncounted() -> None:
    found = split_uncounted({"a": {"sessions.key": 1, "sessions_of": 2}}, {"a": ("sessions",)})
    assert (found.records, found.uncounted) == (
        {"a": {"sessions_of": 2}},
        {"a": {"sessions.key": 1}},
    )


@pytest.mark.parametrize("pattern", ["*", "ab*", "a b", "", "se\nssions"])
def test_overly_broad_pattern_is_rejected(pattern: str) -> None:
    databases = [{"name": "cases", "tables_without_records": [pattern]}]
    with pytest.raises(ManifestError):
        parse_manifest({"schema": 1, "product": "p", "version": "1.0", "databases": databases}, "m")
