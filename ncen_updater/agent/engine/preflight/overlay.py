"""Do the country's own texts and settings fit the release?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ncen_updater.agent.engine.preflight.base import (
    PreflightContext,
    make_advisory,
    make_blocker,
    register_check,
)
from ncen_updater.common.findings import Finding
from ncen_updater.common.i18n import N_

if TYPE_CHECKING:
    from ncen_updater.agent.storage.overlay.layer import FileReport, OverlayReport


@register_check(85, upgrade_only=True)
def check_overlay(context: PreflightContext) -> tuple[Finding, ...]:
    """NU-6350 and 6351 for settings that bar a release; 6352 and 6353 for texts, which never do."""
    if context.overlay is None:
        return ()
    target = context.document.manifest.release_version
    return tuple(judge_overlay(context.overlay.make_report(context.slots.read_current(), target)))


def judge_overlay(report: OverlayReport) -> Iterator[Finding]:
    """Say what bars a release, and what people should look at; pure."""
    # Loaded here: only sites with an overlay have a report.
    from ncen_updater.agent.storage.overlay.report_text import describe_key
    from ncen_updater.agent.storage.overlay.three_way_merge import BLOCKING_OUTCOMES, KeyOutcome

    for file in report.files:
        if file.problem is not None:
            yield _make_unreadable_finding(file)
        for reported in file.select(*BLOCKING_OUTCOMES):
            yield make_blocker(
                6350,
                N_("{path}: {key}: {words}"),
                N_("Correct this setting in {path}; see the release notes."),
                path=file.local_path,
                key=reported.name,
                words=describe_key(reported),
            )
        refused = file.select(KeyOutcome.REJECTED, KeyOutcome.COLLISION)
        if refused:
            yield make_advisory(
                6352,
                N_("Unusable local texts in {path}: {count}, for example {key}: {words}"),
                N_(
                    "The texts of the release are shown instead. Run: ncen-updater"
                    " translations report"
                ),
                path=file.local_path,
                count=len(refused),
                key=refused[0].name,
                words=describe_key(refused[0]),
            )


def _make_unreadable_finding(file: FileReport) -> Finding:
    problem = file.problem
    assert problem is not None  # noqa: S101 - the caller has looked
    place = problem.path if problem.line is None else f"{problem.path}:{problem.line}"
    if file.is_settings:
        return make_blocker(
            6351,
            N_("Cannot read the settings in {path}: {why}"),
            N_("Correct the file before the upgrade."),
            path=place,
            why=problem.reason,
        )
    return make_advisory(
        6353,
        N_("Cannot read the translations in {path}: {why}"),
        N_("The texts of the release are shown instead. Correct the file."),
        path=place,
        why=problem.reason,
    )
