"""Can the site's own files be kept, and what does that not undo?"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ncen_updater.agent.config.model import AgentConfig, FilesSettings
from ncen_updater.agent.engine.preflight.base import Context, check, info, strict
from ncen_updater.agent.storage.site_files.keeping import FilesSurvey, best_method, place_of, survey
from ncen_updater.agent.storage.site_files.listing import Method
from ncen_updater.common.findings import Finding
from ncen_updater.common.i18n import N_
from ncen_updater.formats.manifest import FileEffect, FilesManifest


@check(80, only_forward=True)
def check_files(context: Context) -> tuple[Finding, ...]:
    """NU-6328 where files cannot be kept, NU-6329 without room, NU-6330 and 6331 what stays.

    Without a table ``[[files]]`` nothing is covered, and nothing is said.
    """
    declared = {item.name: item for item in context.document.manifest.files}
    return tuple(look_at(context.config, declared))


def look_at(config: AgentConfig, declared: dict[str, FilesManifest]) -> Iterator[Finding]:
    """Look over every directory of the configuration."""
    for item in config.files:
        directory = config.paths.resolve(item.directory)
        try:
            found = survey(directory)
            method = best_method(directory, whole=item.keep == "copy")
        except OSError as error:
            yield strict(
                6328,
                N_("The {name} in {directory} cannot be kept during the change: {reason}."),
                N_(
                    "Correct [[files]] in agent.toml, or give the agent's user the right to read"
                    " there and to write in the directory above it."
                ),
                name=item.name,
                directory=str(directory),
                reason=error.strerror or str(error),
            )
        else:
            yield from judge(item, directory, method, found, declared.get(item.name))


def judge(
    item: FilesSettings,
    directory: Path,
    method: Method,
    found: FilesSurvey,
    declared: FilesManifest | None,
) -> Iterator[Finding]:
    """Say whether there is room, and what could not be undone; pure.

    Args:
        item: The table of the configuration.
        directory: Where it is.
        method: How its files would be kept.
        found: What is there.
        declared: What the release says that it does to them.
    """
    names = 1 + found.directories + (found.files if method is not Method.LINK else 0)
    size = found.size_bytes if method is Method.COPY else 0
    if found.free_bytes < size or (found.free_inodes is not None and found.free_inodes < names):
        yield strict(
            6329,
            N_(
                "Keeping the {name} needs {bytes} and {inodes} inodes on the disk of {place},"
                " which has {free_bytes} and {free_inodes}."
            ),
            N_('Make room on that disk, or say keep = "auto" for these files.'),
            name=item.name,
            bytes=size,
            inodes=names,
            place=str(place_of(directory)),
            free_bytes=found.free_bytes,
            free_inodes=found.free_inodes if found.free_inodes is not None else "-",
        )
    if method is not Method.LINK:
        return
    if declared is not None and declared.effect is FileEffect.REWRITES:
        yield strict(
            6331,
            N_(
                "The release writes into the {name} that are there ({words}); the way in which they"
                " are kept here cannot undo that."
            ),
            N_('Say keep = "copy" for these files in agent.toml, and have room for a copy.'),
            name=item.name,
            words=declared.words,
        )
    else:
        yield info(
            6330,
            N_(
                "The {count} {name} get a second name for the time of the change: renaming,"
                " replacing and deleting is undone, writing into a file is only told."
            ),
            N_('Say keep = "copy" for these files where that matters.'),
            name=item.name,
            count=found.files,
        )
