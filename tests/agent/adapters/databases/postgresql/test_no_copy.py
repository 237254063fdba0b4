"""Tests of a change without copies: only the marker changes."""

from __future__ import annotations

from dataclasses import replace

import psycopg
import pytest

from ncen_updater.agent.adapters.databases.base import (
    ChangeEvidence,
    ChangeRef,
    CopyPlan,
    DatabaseMarker,
)
from ncen_updater.agent.adapters.databases.postgresql.catalogue import (
    add_marker,
    append_marker,
    keep_last_marker,
    mark_committed,
    parse_marker,
    remove_last_marker,
)
from ncen_updater.agent.model.errors import DatabaseError
from ncen_updater.common.messages import ALREADY_COMMITTED, CUT_OVER_FAILED
from ncen_updater.common.progress import SilentProgress
from tests.agent.adapters.databases.postgresql.site import CHANGE, Site
from tests.support.errors import refused

AS_IS = replace(CHANGE, no_copy=True)
NEXT = ChangeRef("bcdefgha", 3, "3.3.1", no_copy=True)
WRITES = ("SET ROLE ncen", "INSERT INTO cases VALUES (9000, 'by the new release', NULL)")


def fence_and_cut_over(site: Site, change: ChangeRef) -> None:
    engine = site.engine()
    engine.fence(change)
    plan = engine.plan_copy(change)
    assert plan == CopyPlan({})
    engine.copy_databases(change, plan, SilentProgress())
    assert engine.is_copied(change, plan)
    engine.cut_over(change)


def revert_and_unfence(site: Site, change: ChangeRef) -> None:
    engine = site.engine()
    engine.revert_cut_over(change)
    engine.revert_cut_over(change)
    assert engine.read_evidence(change) == ChangeEvidence(is_cut_over=False, fenced=True)
    engine.discard_candidates(change, CopyPlan({}))
    engine.unfence(change)


@pytest.mark.parametrize("change", [AS_IS, NEXT], ids=["first", "next"])
def test_cut_over_and_back_changes_only_the_comment(any_site: Site, change: ChangeRef) -> None:
    site, engine = any_site, any_site.engine()
    before, oids = site.snapshot(), numbers(site)
    fence_and_cut_over(site, change)
    assert engine.read_evidence(change) == ChangeEvidence(is_cut_over=True, fenced=False)
    assert engine.read_marker() == DatabaseMarker(change.release, change.generation, change.id)
    assert not engine.list_leftovers() and numbers(site) == oids
    engine.cut_over(change)
    site.sql("t_seizure", *WRITES)
    revert_and_unfence(site, change)
    assert engine.read_marker() is None and not engine.list_quarantined()
    assert site.sql("t_seizure", "SELECT count(*) FROM cases") == [(501,)]  # it is nowhere else
    site.sql("t_seizure", "DELETE FROM cases WHERE id = 9000")
    assert (site.snapshot(), numbers(site)) == (before, oids)


def test_commit_is_recorded_and_not_reverted(any_site: Site) -> None:
    site, engine = any_site, any_site.engine()
    before = site.snapshot()
    fence_and_cut_over(site, AS_IS)
    engine.check_before_commit(AS_IS)
    engine.record_commit(AS_IS)
    engine.record_commit(AS_IS)
    assert engine.read_evidence(AS_IS).committed
    with refused(ALREADY_COMMITTED):
        engine.revert_cut_over(AS_IS)
    engine.unfence(AS_IS)
    for physical, (attributes, limit, allow, comment, digests) in site.snapshot().items():
        was = before[physical]
        assert (attributes, limit, allow, digests) == (*was[:3], was[4])
        assert comment == mark_committed(add_marker(was[3], AS_IS))
    # One more, and back: the marker of the first stands again, with its commit.
    committed = site.snapshot()
    fence_and_cut_over(site, NEXT)
    assert not engine.read_evidence(NEXT).committed
    assert engine.read_evidence(AS_IS).superseded
    revert_and_unfence(site, NEXT)
    assert site.snapshot() == committed
    assert engine.read_evidence(AS_IS).committed
    engine.drop_previous(AS_IS.id)
    assert site.snapshot() == committed


def test_control_row_repairs_a_lost_comment(any_site: Site) -> None:
    site, engine = any_site, any_site.engine()
    fence_and_cut_over(site, AS_IS)
    engine.record_commit(AS_IS)
    site.sql("postgres", "COMMENT ON DATABASE t_seizure IS 'restored'")
    assert engine.read_marker() == DatabaseMarker("3.3.0", 2, AS_IS.id)
    assert engine.repair_marker() == ("t_seizure",)


def test_only_the_application_connects_before_the_commit(any_site: Site) -> None:
    site = any_site
    fence_and_cut_over(site, AS_IS)
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        site.sql("t_seizure", "SELECT 1", user="app ro")
    site.engine().record_commit(AS_IS)
    assert site.sql("t_seizure", "SELECT 1", user="app ro") == [(1,)]


def test_older_change_does_not_replace_a_newer_one(any_site: Site) -> None:
    site, engine = any_site, any_site.engine()
    fence_and_cut_over(site, NEXT)
    engine.record_commit(NEXT)
    engine.fence(AS_IS)
    with refused(CUT_OVER_FAILED, DatabaseError):
        engine.cut_over(AS_IS)


@pytest.mark.parametrize("own", [None, "words", "words\nof two lines"])
def test_marked_comment_is_restored_exactly(own: str | None) -> None:
    first = mark_committed(add_marker(own, AS_IS))
    for comment in (own, first):
        lent = append_marker(comment, NEXT)
        mark = parse_marker(lent)
        assert mark is not None and mark.change == NEXT.id
        assert remove_last_marker(lent) == comment
        assert keep_last_marker(lent) == add_marker(own, NEXT) == add_marker(lent, NEXT)
    assert keep_last_marker(first) == first
    assert keep_last_marker(own) == own


def numbers(site: Site) -> list[object]:
    question = "SELECT datname, oid FROM pg_database WHERE datname <> 't_control' ORDER BY 1"
    return site.sql("postgres", question)
