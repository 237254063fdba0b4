"""Rules of ``lint`` about ``[compatibility]``: promises by which sites copy no database.

Where two releases have the same number, sites run no migrator between them. So a number that stays
although something would have to run is the one mistake here that no later release puts right.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import N_
from ncen_updater.formats.manifest import Compatibility, Manifest
from ncen_updater.publisher.lint.carried_changes import some
from ncen_updater.publisher.lint.release import LintedRelease, finding
from ncen_updater.publisher.new.looking import is_changelog, is_migration


def compatibility(release: LintedRelease) -> Iterator[Finding]:
    """What is said of the schema against what the newest published release said."""
    before = release.previous.manifest if release.previous else None
    new = release.manifest.compatibility
    if new is not None and new.expand and release.manifest.migrator is None:
        yield finding(
            7180,
            Severity.ADVISORY,
            N_("'expand' counts for nothing: only a [migrator] works while officers do."),
            N_("Leave it out: files of migrations run on copies, in the stop."),
        )
    if before is None:
        return
    old = before.compatibility
    if new is None and old is not None:
        yield finding(
            7161,
            Severity.ADVISORY,
            N_("The release has no [compatibility], and {last} had it: sites copy every database."),
            N_("Write it, unless nobody can say on which databases the release before runs."),
            last=before.version,
        )
    elif new is not None and old is None:
        yield finding(
            7162,
            Severity.ADVISORY,
            N_("{last} has no [compatibility]: from there, and back, sites copy all the same."),
            N_("Nothing is to be done: it counts from this release on."),
            last=before.version,
        )
    elif new is not None and old is not None:
        yield from _numbers(release, before, new, old)


def _numbers(
    release: LintedRelease, before: Manifest, new: Compatibility, old: Compatibility
) -> Iterator[Finding]:
    values: dict[str, object] = {
        "last": before.version,
        "schema": new.schema_number,
        "before": old.schema_number,
    }
    if new.schema_number < old.schema_number:
        yield finding(
            7163,
            Severity.STRICT,
            N_("'schema_number' is {schema}, and was {before} in {last}: it only rises."),
            N_("Give it the number of {last}, or a higher one where the databases change."),
            **values,
        )
        return
    if new.schema_number == old.schema_number:
        yield from _stays(release, before, values)
    elif not any(release.new_migrations()) and release.manifest.migrator is None:
        yield finding(
            7164,
            Severity.ADVISORY,
            N_("'schema_number' rises from {before} to {schema}, and nothing of it migrates."),
            N_("Leave it, unless the application changes its databases itself when it starts."),
            **values,
        )
    if new.back_to < old.back_to:
        yield finding(
            7165,
            Severity.ADVISORY,
            N_("'back_to' falls to {back_to}; in {last}, whose rows stay, it was {back_before}."),
            N_("Be sure that releases of number {back_to} run on what {last} wrote, too."),
            back_to=new.back_to,
            back_before=old.back_to,
            **values,
        )
    if new.expand and release.manifest.migrator is not None and new.back_to > old.schema_number:
        yield finding(
            7181,
            Severity.ADVISORY,
            N_("'expand' does not count from {last}, of number {before}: 'back_to' is {back_to}."),
            N_("Sites that have it copy, with officers out. Lower 'back_to' if {last} does run."),
            back_to=new.back_to,
            **values,
        )
    if release.manifest.migrator is not None and new.back_to > old.schema_number:
        yield finding(
            7166,
            Severity.ADVISORY,
            N_("'back_to' is {back_to}: {last}, of number {before}, does not run afterwards."),
            N_("Going back to it gives up what was entered since. Lower it if {last} does run."),
            back_to=new.back_to,
            **values,
        )


def _stays(
    release: LintedRelease, before: Manifest, values: dict[str, object]
) -> Iterator[Finding]:
    """The number is that of before: is there something that would have to run?"""
    fresh = [migration.id for _, migration in release.new_migrations()]
    if fresh:
        yield finding(
            7167,
            Severity.ADVISORY,
            N_("'schema_number' stays {schema}, and these migrations are new: {migrations}"),
            N_("Raise it, unless tables and what stands in them keep their form."),
            migrations=some(fresh),
            **values,
        )
    if release.manifest.migrator is None:
        return
    if release.manifest.migrator.contract is not None:
        yield finding(
            7182,
            Severity.ADVISORY,
            N_("'schema_number' stays {schema}: [migrator.contract] never runs where {last} was."),
            N_("Raise it, unless it has nothing to do on the databases of {last}."),
            **values,
        )
    if before.migrator is None:
        yield finding(
            7168,
            Severity.ADVISORY,
            N_("'schema_number' stays {schema}: the [migrator] never runs where {last} was."),
            N_("Raise it, unless the [migrator] has nothing to do on the databases of {last}."),
            **values,
        )
    own, others = _new_files(release)
    for paths, severity in ((own, Severity.STRICT), (others, Severity.ADVISORY)):
        if paths:
            yield finding(
                7169,
                severity,
                N_("'schema_number' stays {schema}: {files} never run where {last} was."),
                N_("Raise it: where it stays, a [migrator] runs nowhere."),
                files=some(paths),
                **values,
            )


def _new_files(release: LintedRelease) -> tuple[list[str], list[str]]:
    """What a migrator would have to run: of the application, and of libraries.

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
        if (was is None and is_migration(path)) or (was != digest and is_changelog(path)):
            others = any(str(place) in libraries for place in PurePosixPath(path).parents)
            found[others].append(path)
    return found
