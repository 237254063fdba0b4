"""A change that leaves the databases as they are: the marker, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import psycopg
import pytest

from ncen_updater.agent.adapters.databases.base import ChangeRef, CopyPlan, Evidence, Marker
from ncen_updater.agent.adapters.databases.postgresql.catalogue import (
    committed_comment,
    lent_comment,
    live_comment,
    parse_marker,
    returned_comment,
    settled_comment,
)
from ncen_updater.agent.model.errors import DatabaseError
from ncen_updater.common.messages import CUT_OVER_FAILED, OFFICERS_WERE_IN
from ncen_updater.common.progress import Silent
from tests.agent.adapters.databases.postgresql.site import CHANGE, Site
from tests.support.errors import refused

AS_IS = replace(CHANGE, as_is=True)
NEXT = ChangeRef("bcdefgha", 3, "3.3.1", as_is=True)
WRITES = ("SET ROLE ncen", "INSERT INTO cases VALUES (9000, 'by the new release', NULL)")


def over(site: Site, change: ChangeRef) -> None:
    engine = site.engine()
    engine.fence(change)
    plan = engine.plan_copy(change)
    assert plan == CopyPlan({})
    engine.copy(change, plan, Silent())
    assert engine.copied(change, plan)
    engine.cut_over(change)


def back(site: Site, change: ChangeRef) -> None:
    engine = site.engine()
    engine.cut_back(change)
    engine.cut_back(change)
    assert engine.evidence(change) == Evidence(swapped=False, fenced=True)
    engine.discard(change, CopyPlan({}))
    engine.unfence(change)


@pytest.mark.parametrize("change", [AS_IS, NEXT], ids=["first", "next"])
def test_over_and_back_changes_the_comment_alone(any_site: Site, change: ChangeRef) -> None:
    site, engine = any_site, any_site.engine()
    before, oids = site.snapshot(), numbers(site)
    over(site, change)
    assert engine.evidence(change) == Evidence(swapped=True, fenced=False)
    assert engine.marker() == Marker(change.release, change.generation, change.id)
    assert not engine.leftovers() and numbers(site) == oids
    engine.cut_over(change)
    site.sql("t_seizure", *WRITES)
    back(site, change)
    assert engine.marker() is None and not engine.set_aside()
    assert site.sql("t_seizure", "SELECT count(*) FROM cases") == [(501,)]  # it is nowhere else
    site.sql("t_seizure", "DELETE FROM cases WHERE id = 9000")
    assert (site.snapshot(), numbers(site)) == (before, oids)


def test_a_commit_is_remembered_and_not_taken_back(any_site: Site) -> None:
    site, engine = any_site, any_site.engine()
    before = site.snapshot()
    over(site, AS_IS)
    engine.before_commit(AS_IS)
    engine.record_commit(AS_IS)
    engine.record_commit(AS_IS)
    assert engine.evidence(AS_IS).committed
    with refused(OFFICERS_WERE_IN):
        engine.cut_back(AS_IS)
    engine.unfence(AS_IS)
    for physical, (attributes, limit, allow, comment, digests) in site.snapshot().items():
        was = before[physical]
        assert (attributes, limit, allow, digests) == (*was[:3], was[4])
        assert comment == committed_comment(live_comment(was[3], AS_IS))
    # One more, and back: the marker of the first stands again, with its commit.
    committed = site.snapshot()
    over(site, NEXT)
    assert not engine.evidence(NEXT).committed
    assert engine.evidence(AS_IS).later
    back(site, NEXT)
    assert site.snapshot() == committed
    assert engine.evidence(AS_IS).committed
    engine.drop_previous(AS_IS.id)
    assert site.snapshot() == committed


def test_what_lies_inside_makes_up_for_a_lost_comment(any_site: Site) -> None:
    site, engine = any_site, any_site.engine()
    over(site, AS_IS)
    engine.record_commit(AS_IS)
    site.sql("postgres", "COMMENT ON DATABASE t_seizure IS 'restored'")
    assert engine.marker() == Marker("3.3.0", 2, AS_IS.id)
    assert engine.heal_marker() == ("t_seizure",)


def test_nobody_is_let_in_before_the_commit_but_the_application(any_site: Site) -> None:
    site = any_site
    over(site, AS_IS)
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        site.sql("t_seizure", "SELECT 1", user="app ro")
    site.engine().record_commit(AS_IS)
    assert site.sql("t_seizure", "SELECT 1", user="app ro") == [(1,)]


def test_an_older_change_is_not_cut_over_a_newer_one(any_site: Site) -> None:
    site, engine = any_site, any_site.engine()
    over(site, NEXT)
    engine.record_commit(NEXT)
    engine.fence(AS_IS)
    with refused(CUT_OVER_FAILED, DatabaseError):
        engine.cut_over(AS_IS)


@pytest.mark.parametrize("own", [None, "words", "words\nof two lines"])
def test_a_comment_that_is_lent_comes_back_exactly(own: str | None) -> None:
    first = committed_comment(live_comment(own, AS_IS))
    for comment in (own, first):
        lent = lent_comment(comment, NEXT)
        mark = parse_marker(lent)
        assert mark is not None and mark.change == NEXT.id
        assert returned_comment(lent) == comment
        assert settled_comment(lent) == live_comment(own, NEXT) == live_comment(lent, NEXT)
    assert settled_comment(first) == first
    assert settled_comment(own) == own


def numbers(site: Site) -> list[object]:
    question = "SELECT datname, oid FROM pg_database WHERE datname <> 't_control' ORDER BY 1"
    return site.sql("postgres", question)
