"""The steps of a change, each with do, check and undo. Their order is that of ``StepName``."""

from __future__ import annotations

from ncen_updater.agent.engine.site import Step
from ncen_updater.agent.engine.steps.application import (
    HealthStep,
    MaintenanceOffStep,
    MaintenanceOnStep,
    StartStep,
    StopStep,
)
from ncen_updater.agent.engine.steps.databases import CopyStep, CutOverStep, FenceStep, MigrateStep
from ncen_updater.agent.engine.steps.preflight import FinalPreflightStep, PreflightStep
from ncen_updater.agent.engine.steps.release import BuildSlotStep, FetchStep, SwitchStep
from ncen_updater.agent.engine.steps.soak_and_prune import CommitStep, PruneStep, SoakStep
from ncen_updater.agent.model.change import StepName

__all__ = ["Step", "make_steps"]


def make_steps() -> dict[StepName, Step]:
    """Return all steps, in order."""
    steps: tuple[Step, ...] = (
        FetchStep(),
        BuildSlotStep(),
        PreflightStep(),
        MaintenanceOnStep(),
        StopStep(),
        FenceStep(),
        FinalPreflightStep(),
        CopyStep(),
        MigrateStep(),
        CutOverStep(),
        SwitchStep(),
        StartStep(),
        HealthStep(),
        CommitStep(),
        MaintenanceOffStep(),
        SoakStep(),
        PruneStep(),
    )
    return {step.name: step for step in steps}
