"""Can the site's own files be kept, and what does that not undo?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ncen_updater.agent.config.agent_config import AgentConfig, SiteFilesSettings
from ncen_updater.agent.engine.preflight.base import (
    PreflightContext,
    make_blocker,
    make_info,
    register_check,
)
from ncen_updater.agent.storage.site_files.keeping import (
    DirectorySurvey,
    choose_snapshot_method,
    get_snapshot_directory,
    survey_directory,
)
from ncen_updater.agent.storage.site_files.listing import SnapshotMethod
from ncen_updater.common.findings import Finding
from ncen_updater.common.i18n import N_
from ncen_updater.formats.manifest import SiteFileEffect, SiteFilesManifest


@register_check(80, upgrade_only=True)
def check_site_files(context: PreflightContext) -> tuple[Finding, ...]:
    """NU-6328 where files cannot be kept, NU-6329 without room, NU-6330 and 6331 what stays.

    Without a table ``[[files]]`` nothing is covered, and nothing is said.
    """
    declared = {item.name: item for item in context.document.manifest.files}
    return tuple(inspect_site_files(context.config, declared))


def inspect_site_files(
    config: AgentConfig, declared: dict[str, SiteFilesManifest]
) -> Iterator[Finding]:
    """Look over every directory of the configuration."""
    for item in config.files:
        directory = config.paths.resolve(item.directory)
        try:
            found = survey_directory(directory)
            method = choose_snapshot_method(directory, independent=item.snapshot_method == "copy")
        except OSError as error:
            yield make_blocker(
                6328,
                N_("Cannot retain the {name} in {directory}: {reason}"),
                N_(
                    "Correct [[files]] in agent.toml, or grant read access there and write"
                    " access to its parent directory."
                ),
                name=item.name,
                directory=str(directory),
                reason=error.strerror or str(error),
            )
        else:
            yield from judge_directory(item, directory, method, found, declared.get(item.name))


def judge_directory(
    item: SiteFilesSettings,
    directory: Path,
    method: SnapshotMethod,
    survey: DirectorySurvey,
    declared: SiteFilesManifest | None,
) -> Iterator[Finding]:
    """Say whether there is room, and what could not be undone; pure.

    Args:
        item: The table of the configuration.
        directory: Where it is.
        method: How its files would be kept.
        survey: What is there.
        declared: What the release says that it does to them.
    """
    names = 1 + survey.directories + (survey.files if method is not SnapshotMethod.LINK else 0)
    size = survey.size_bytes if method is SnapshotMethod.COPY else 0
    if survey.free_bytes < size or (survey.free_inodes is not None and survey.free_inodes < names):
        yield make_blocker(
            6329,
            N_(
                "Not enough disk space in {place} for the {name}: {free_bytes} and"
                " {free_inodes} inodes free, {bytes} and {inodes} inodes required"
            ),
            N_('Free disk space there, or set snapshot_method = "auto" for these files.'),
            name=item.name,
            bytes=size,
            inodes=names,
            place=str(get_snapshot_directory(directory)),
            free_bytes=survey.free_bytes,
            free_inodes=survey.free_inodes if survey.free_inodes is not None else "-",
        )
    if method is not SnapshotMethod.LINK:
        return
    if declared is not None and declared.effect is SiteFileEffect.REWRITES:
        yield make_blocker(
            6331,
            N_("The release rewrites existing {name} ({words}); hard links cannot revert that"),
            N_('Set snapshot_method = "copy" for these files in agent.toml.'),
            name=item.name,
            words=declared.description,
        )
    else:
        yield make_info(
            6330,
            N_(
                "Existing {name} ({count}) are retained by hard links; in-place writes"
                " cannot be reverted"
            ),
            N_(
                'To revert those as well, set snapshot_method = "copy" for these files in'
                " agent.toml."
            ),
            name=item.name,
            count=survey.files,
        )
