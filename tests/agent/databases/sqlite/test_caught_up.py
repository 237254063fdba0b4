"""What is known of a set once an older agent made changes."""

from __future__ import annotations

import pytest

from ncen_updater.agent.databases.base import DatabaseRole, Marker
from ncen_updater.agent.databases.sqlite.layout import caught_up
from ncen_updater.agent.databases.sqlite.records import SetRecord, SetRole

OURS, THEIRS = "aaaaaaaa", "bbbbbbbb"
ROLE, NEWER = (SetRole(DatabaseRole.PREVIOUS, change, {}) for change in (OURS, THEIRS))
MARKER, LATER = Marker("1.0", 1, OURS), Marker("2.0", 2, THEIRS)


@pytest.mark.parametrize(
    ("record", "said", "live", "expected"),
    [
        (SetRecord(), SetRecord(role=NEWER), False, SetRecord(role=NEWER)),
        (SetRecord(MARKER), SetRecord(LATER), True, SetRecord(LATER)),
        (SetRecord(touched=OURS), SetRecord(touched=THEIRS), True, SetRecord(touched=THEIRS)),
        (SetRecord(touched=OURS), SetRecord(), True, SetRecord()),
        (SetRecord(touched=OURS), SetRecord(touched=OURS), True, SetRecord(touched=OURS)),
        (SetRecord(), SetRecord(committed=THEIRS), True, SetRecord(committed=THEIRS)),
        # What names no change of theirs was there before, or was put there by somebody.
        (SetRecord(), SetRecord(MARKER, OURS, None, ROLE), False, SetRecord()),
        (SetRecord(MARKER, OURS, None, ROLE), SetRecord(), False,
         SetRecord(MARKER, OURS, None, ROLE)),
        # A set that came back is set aside for nothing, unless it was torn while it was.
        (SetRecord(role=ROLE), SetRecord(), True, SetRecord()),
        (SetRecord(role=ROLE), SetRecord(role=NEWER), True, SetRecord(role=NEWER)),
        (SetRecord(counts={"item": 1}), SetRecord(counts={"item": 2}), False,
         SetRecord(counts={"item": 1})),
    ],
)  # fmt: skip
def test_rule(record: SetRecord, said: SetRecord, live: bool, expected: SetRecord) -> None:
    assert caught_up(record, said, {THEIRS}, live=live) == expected
