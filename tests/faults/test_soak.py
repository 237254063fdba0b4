"""A bad soak's own rollback, killed at some instants; ``tests.faults.full --soak`` tries all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ncen_updater.agent.journal.change import Phase, StepName
from tests.faults.cells import Fault, Strike
from tests.faults.full import prepared
from tests.faults.soak import after_bad_soak, soak_strikes
from tests.faults.trial import OLD, Trial
from tests.support.rotation import in_turns


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Trial]:
    with prepared("postgresql") as made:
        yield made


@in_turns("step", "phase")
@pytest.mark.parametrize(
    ("step", "phase"),
    [
        (StepName.MIGRATE, Phase.AFTER_EFFECT),
        (StepName.CUT_OVER, Phase.AFTER_EFFECT),
        (StepName.COMMIT, Phase.AFTER_EFFECT),
    ],
)
def test_a_rollback_after_a_bad_soak_is_killed(
    postgresql: Trial, step: StepName, phase: Phase
) -> None:
    strike = Strike(step, phase, Fault.SIGKILL)
    assert strike in set(soak_strikes())
    outcome = after_bad_soak(postgresql, strike)
    assert outcome.struck
    assert outcome.version == OLD
