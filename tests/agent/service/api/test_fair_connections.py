"""Tests of the connection limits: who is admitted and who is evicted."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from ncen_updater.agent.service.api.server import AdmissionController

EACH, TOGETHER = 3, 5


@dataclass(frozen=True)
class Row:
    """Connections are named by their user and a letter; capitals are answered once they are in."""

    comings: str
    inside: str
    refused: str = ""
    left: str = ""


ROWS = [
    Row("1a 1b 1c", inside="1a 1b 1c"),
    Row("1a 1b 1c 1d", inside="1b 1c 1d", left="1a"),
    Row("1A 1b 1c 1d", inside="1A 1c 1d", left="1b"),
    Row("1A 1B 1C 1d", inside="1A 1B 1C", refused="1d"),
    Row("1a 1b 1c 2a 2b 3a", inside="1b 1c 2a 2b 3a", left="1a"),
    Row("1A 1B 1C 2a 2b 3a", inside="1A 1B 1C 2a 2b", refused="3a"),
    Row("1a 1b 2a 3a 4a 5a", inside="1b 2a 3a 4a 5a", left="1a"),
    Row("1a 2a 3a 4a 5a 6a", inside="2a 3a 4a 5a 6a", left="1a"),
    Row("1a 1b 2a 2b 3a 1c", inside="1a 1b 2a 2b 3a", refused="1c"),
    Row("0a 0b 0c 0d 0e 0f 1a", inside="1a"),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.comings)
def test_admission_is_fair(row: Row) -> None:
    fair: AdmissionController[str] = AdmissionController(EACH, TOGETHER, {0})
    inside: list[str] = []
    refused: list[str] = []
    left: list[str] = []
    for name in row.comings.split():
        uid = int(name[0])
        admission = fair.admit(uid, name)
        (inside if admission else refused).append(name)
        if admission.evicted is not None:
            left.append(admission.evicted)
            inside.remove(admission.evicted)
            assert not fair.mark_busy(int(admission.evicted[0]), admission.evicted)
        if admission and name[1].isupper():
            assert fair.mark_busy(uid, name)
    assert [name for name in inside if name[0] != "0"] == row.inside.split()
    assert (refused, left) == (row.refused.split(), row.left.split())
    for name in [*inside, *left]:
        fair.release(name)
    assert all(fair.admit(9, f"9{number}").evicted is None for number in range(EACH))


def test_answered_connection_may_be_evicted() -> None:
    fair: AdmissionController[str] = AdmissionController(1, 5, ())
    assert fair.admit(1, "a")
    assert fair.mark_busy(1, "a")
    assert not fair.admit(1, "b")
    fair.mark_idle("a")
    assert fair.admit(1, "b").evicted == "a"
