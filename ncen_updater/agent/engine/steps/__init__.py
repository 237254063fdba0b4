"""The steps, each with its do, its check and its undo. The order is that of ``StepName``."""

from __future__ import annotations

from ncen_updater.agent.engine.steps.after import Collect, Commit, Soak
from ncen_updater.agent.engine.steps.application import Close, HealthCheck, Open, Start, Stop
from ncen_updater.agent.engine.steps.base import Step
from ncen_updater.agent.engine.steps.databases import Copy, CutOver, Fence, Migrate
from ncen_updater.agent.engine.steps.guards import Preflight, PreflightAgain
from ncen_updater.agent.engine.steps.release import BuildSlot, Fetch
from ncen_updater.agent.engine.steps.slot import Switch
from ncen_updater.agent.model.change import StepName

__all__ = ["Step", "all_steps"]


def all_steps() -> dict[StepName, Step]:
    """Every step, in order."""
    steps: tuple[Step, ...] = (
        Fetch(), BuildSlot(), Preflight(), Close(), Stop(), Fence(), PreflightAgain(), Copy(),
        Migrate(), CutOver(), Switch(), Start(), HealthCheck(), Commit(), Open(), Soak(), Collect(),
    )  # fmt: skip
    return {step.name: step for step in steps}
