"""Tests of events in the system log: actor, action and object, and no text that people wrote."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from ncen_updater.agent.engine.approvals.approval_store import ApprovalStore
from ncen_updater.agent.model.change import Actor
from ncen_updater.agent.storage.journal.jobs import JobKind, JobQueue
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import SiteHistory

AMINA, BO = Actor("amina", 1001), Actor("bo", 1002)


def test_log_record_names_actor_action_and_object(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with Journal.create(tmp_path / "journal") as journal:
        consent, orders = ApprovalStore(journal), JobQueue(journal)
        for person in (AMINA, BO):
            consent.add("b" * 64, "3.3.0", {"note": "private"}, person, 2)
        number = orders.enqueue(JobKind.UPGRADE, {"version": "3.3.0", "language": "fr"}, BO)
        orders.mark_started(number)
        orders.mark_ended(number, {"exit_code": 11, "document": {"error": {"text": "private"}}})
        SiteHistory(journal).add_hold("private: an audit", "amina", None)
        journal.record_event(
            "step-failed", None, step="migrate", code="NU-4203", error="private row"
        )
        journal.record_event("imported", by="bo", files=["private.zip"])
    assert caplog.messages == [
        "approved 3.3.0 by amina (1 of 2)",
        "approved 3.3.0 by bo (2 of 2)",
        "job-queued upgrade by bo (job 1)",
        "job-started upgrade by bo (job 1)",
        "job-ended (job 1) exit code 11",
        "held by amina",
        "step-failed migrate NU-4203",
        "imported by bo",
    ]
    failed = vars(caplog.records[6])
    assert (failed["event"], failed["step"], failed["code"]) == (7, "migrate", "NU-4203")
    assert "private" not in caplog.text
