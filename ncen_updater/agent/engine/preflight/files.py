"""Checks of site files and of the local overlay against the release."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ncen_updater.agent.config.agent_config import AgentConfig, SiteFilesSettings
from ncen_updater.agent.engine.preflight.base import (
    PreflightContext,
    make_advisory,
    make_blocker,
    make_info,
    register_check,
)
from ncen_updater.agent.storage.site_files.directory_index import (
    DirectorySurvey,
    SnapshotMethod,
    choose_snapshot_method,
    get_snapshot_directory,
    survey_directory,
)
from ncen_updater.common.findings import Finding
from ncen_updater.common.i18n import N_
from ncen_updater.formats.manifest import SiteFileEffect, SiteFilesManifest

if TYPE_CHECKING:
    from ncen_updater.agent.storage.overlay.layer import FileReport, OverlayReport


@register_check(80, upgrade_only=True)
def check_site_files(context: PreflightContext) -> tuple[Finding, ...]:
    """Check the site files: NU-6328 no snapshot, NU-6329 no space, NU-6330, NU-6331 not revertible.

    Without a table ``[[files]]`` there are no findings.
    """
    declared = {item.name: item for item in context.document.manifest.files}
    return tuple(inspect_site_files(context.config, declared))


def inspect_site_files(
    config: AgentConfig, declared: dict[str, SiteFilesManifest]
) -> Iterator[Finding]:
    """Inspect every configured directory of site files."""
    for item in config.files:
        directory = config.paths.resolve(item.directory)
        try:
            survey = survey_directory(directory)
            method = choose_snapshot_method(directory, independent=item.snapshot_method == "copy")
        except OSError as error:
            yield make_blocker(
                6328,
                N_("Cannot save the {name} in {directory}: {reason}"),
                N_(
                    "Correct [[files]] in agent.toml, or grant read access there and write"
                    " access to its parent directory."
                ),
                name=item.name,
                directory=str(directory),
                reason=error.strerror or str(error),
            )
        else:
            yield from judge_directory(item, directory, method, survey, declared.get(item.name))


def judge_directory(
    item: SiteFilesSettings,
    directory: Path,
    method: SnapshotMethod,
    survey: DirectorySurvey,
    declared: SiteFilesManifest | None,
) -> Iterator[Finding]:
    """Check for space and for changes that cannot be reverted; pure.

    Args:
        item: The table of the configuration.
        directory: The directory.
        method: The snapshot method.
        survey: Size and contents of the directory.
        declared: The declared effect of the release on these files.
    """
    inodes = 1 + survey.directories + (survey.files if method is not SnapshotMethod.LINK else 0)
    size = survey.size_bytes if method is SnapshotMethod.COPY else 0
    if survey.free_bytes < size or (survey.free_inodes is not None and survey.free_inodes < inodes):
        yield make_blocker(
            6329,
            N_(
                "Not enough disk space in {path} for the {name}: {free_bytes} and"
                " {free_inodes} inodes free, {bytes} and {inodes} inodes required"
            ),
            N_('Free disk space there, or set snapshot_method = "auto" for these files.'),
            name=item.name,
            bytes=size,
            inodes=inodes,
            path=str(get_snapshot_directory(directory)),
            free_bytes=survey.free_bytes,
            free_inodes=survey.free_inodes if survey.free_inodes is not None else "-",
        )
    if method is not SnapshotMethod.LINK:
        return
    if declared is not None and declared.effect is SiteFileEffect.REWRITES:
        yield make_blocker(
            6331,
            N_(
                "The release rewrites existing {name} ({description}); hard links cannot"
                " revert that"
            ),
            N_('Set snapshot_method = "copy" for these files in agent.toml.'),
            name=item.name,
            description=declared.description,
        )
    else:
        yield make_info(
            6330,
            N_(
                "Existing {name} ({count}) are saved by hard links; changes inside"
                " an existing file cannot be reverted"
            ),
            N_(
                'To be able to revert them, set snapshot_method = "copy" for these files in'
                " agent.toml."
            ),
            name=item.name,
            count=survey.files,
        )


@register_check(85, upgrade_only=True)
def check_overlay(context: PreflightContext) -> tuple[Finding, ...]:
    """Check the local overlay: NU-6350, NU-6351 bad settings; NU-6352, NU-6353 bad texts."""
    if context.overlay is None:
        return ()
    target = context.document.manifest.release_version
    return tuple(judge_overlay(context.overlay.make_report(context.slots.read_current(), target)))


def judge_overlay(report: OverlayReport) -> Iterator[Finding]:
    """Report blocking settings and unusable texts of the overlay; pure."""
    # Imported here: only sites with an overlay need it.
    from ncen_updater.agent.storage.overlay.report_text import describe_key
    from ncen_updater.agent.storage.overlay.three_way_merge import BLOCKING_OUTCOMES, KeyOutcome

    for file in report.files:
        if file.problem is not None:
            yield _make_unreadable_finding(file)
        for reported in file.select(*BLOCKING_OUTCOMES):
            yield make_blocker(
                6350,
                N_("{path}: {key}: {problem}"),
                N_("Correct this setting in {path}; see the release notes."),
                path=file.local_path,
                key=reported.name,
                problem=describe_key(reported),
            )
        refused = file.select(KeyOutcome.REJECTED, KeyOutcome.COLLISION)
        if refused:
            yield make_advisory(
                6352,
                N_("Unusable local texts in {path}: {count}, for example {key}: {problem}"),
                N_("Correct these texts. To list them, run: sudo ncen-updater translations report"),
                path=file.local_path,
                count=len(refused),
                key=refused[0].name,
                problem=describe_key(refused[0]),
            )


def _make_unreadable_finding(file: FileReport) -> Finding:
    problem = file.problem
    assert problem is not None  # noqa: S101 - checked by the caller
    location = problem.path if problem.line is None else f"{problem.path}:{problem.line}"
    if file.is_settings:
        return make_blocker(
            6351,
            N_("Cannot read the settings in {path}: {reason}"),
            N_("Correct the file before the upgrade."),
            path=location,
            reason=problem.reason,
        )
    return make_advisory(
        6353,
        N_("Cannot read the translations in {path}: {reason}"),
        N_("The texts of the release are shown instead. Correct the file."),
        path=location,
        reason=problem.reason,
    )
