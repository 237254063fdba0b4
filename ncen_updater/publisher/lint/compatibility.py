"""Rules of ``lint`` about ``[compatibility]``: promises by which sites copy no database.

Where two releases have the same number, sites run no migrator between them. So a number that stays
although something would have to run is the one mistake here that no later release puts right.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from ncen_updater.common.findings import Finding, Severity
from ncen_updater.formats.manifest import Manifest, SchemaCompatibility
from ncen_updater.publisher.lint import rules
from ncen_updater.publisher.lint.linted_release import LintedRelease
from ncen_updater.publisher.lint.overlay_changes import format_names
from ncen_updater.publisher.new.migration_detection import is_migration_file, is_rerun_changelog


def check_compatibility(release: LintedRelease) -> Iterator[Finding]:
    """Yield what is said of the schema against what the newest published release said."""
    before = release.previous.manifest if release.previous else None
    new = release.manifest.compatibility
    if new is not None and new.expand and release.manifest.migrator is None:
        yield rules.EXPAND_WITHOUT_MIGRATOR.report()
    if before is None:
        return
    old = before.compatibility
    if new is None and old is not None:
        yield rules.COMPATIBILITY_DROPPED.report(last=before.version)
    elif new is not None and old is None:
        yield rules.COMPATIBILITY_NEW.report(last=before.version)
    elif new is not None and old is not None:
        yield from _check_schema_numbers(release, before, new, old)


def _check_schema_numbers(
    release: LintedRelease, before: Manifest, new: SchemaCompatibility, old: SchemaCompatibility
) -> Iterator[Finding]:
    values: dict[str, object] = {
        "last": before.version,
        "schema": new.schema_number,
        "before": old.schema_number,
    }
    if new.schema_number < old.schema_number:
        yield rules.SCHEMA_NUMBER_LOWERED.report(**values)
        return
    if new.schema_number == old.schema_number:
        yield from _check_unchanged_schema(release, before, values)
    elif not any(release.iter_new_migrations()) and release.manifest.migrator is None:
        yield rules.SCHEMA_NUMBER_RAISED_IDLY.report(**values)
    if new.compatible_down_to < old.compatible_down_to:
        yield rules.BACK_TO_LOWERED.report(
            compatible_down_to=new.compatible_down_to, back_before=old.compatible_down_to, **values
        )
    if (
        new.expand
        and release.manifest.migrator is not None
        and new.compatible_down_to > old.schema_number
    ):
        yield rules.EXPAND_NOT_FROM_LAST.report(compatible_down_to=new.compatible_down_to, **values)
    if release.manifest.migrator is not None and new.compatible_down_to > old.schema_number:
        yield rules.ROLLBACK_GIVES_UP_DATA.report(
            compatible_down_to=new.compatible_down_to, **values
        )


def _check_unchanged_schema(
    release: LintedRelease, before: Manifest, values: dict[str, object]
) -> Iterator[Finding]:
    """Yield the number is that of before: is there something that would have to run?"""
    fresh = [migration.id for _, migration in release.iter_new_migrations()]
    if fresh:
        yield rules.NEW_MIGRATIONS_SAME_NUMBER.report(migrations=format_names(fresh), **values)
    if release.manifest.migrator is None:
        return
    if release.manifest.migrator.contract is not None:
        yield rules.CONTRACT_SAME_NUMBER.report(**values)
    if before.migrator is None:
        yield rules.NEW_MIGRATOR_SAME_NUMBER.report(**values)
    own, others = _list_new_migration_files(release)
    for paths, severity in ((own, Severity.CRITICAL), (others, Severity.WARNING)):
        if paths:
            yield rules.NEW_FILES_SAME_NUMBER.report(severity, files=format_names(paths), **values)


def _list_new_migration_files(release: LintedRelease) -> tuple[list[str], list[str]]:
    """Return what a migrator would have to run: of the application, and of libraries.

    A library's may be of a part that the application does not use.
    """
    if release.files_before is None:
        return [], []
    found: tuple[list[str], list[str]] = ([], [])
    libraries = {
        str(PurePosixPath(path).parents[1])
        for path in release.files
        if PurePosixPath(path).parent.name.endswith(".dist-info")
    }
    for path, digest in sorted(release.files.items()):
        was = release.files_before.get(path)
        if (was is None and is_migration_file(path)) or (
            was != digest and is_rerun_changelog(path)
        ):
            others = any(str(place) in libraries for place in PurePosixPath(path).parents)
            found[others].append(path)
    return found
