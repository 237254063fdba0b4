"""Tests of a reason that is typed on the command line."""

from __future__ import annotations

import os
from pathlib import Path

from ncen_updater.agent.cli.common import parse_reason
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import SiteHistory


def test_reason_in_the_encoding_of_another_terminal_is_stored(tmp_path: Path) -> None:
    reason = parse_reason(os.fsdecode("fermé à midi".encode("latin-1")))
    with Journal.create(tmp_path / "journal.sqlite") as journal:
        SiteHistory(journal).add_hold(reason, "root", None)
        assert [hold.reason for hold in SiteHistory(journal).list_holds()] == ["ferm? ? midi"]
