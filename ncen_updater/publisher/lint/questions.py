"""Rules of ``lint`` about what a release asks the databases: checks and maps of reference data."""

from __future__ import annotations

from collections.abc import Iterator

from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import N_
from ncen_updater.publisher.build.build import migration_files
from ncen_updater.publisher.lint.release import LintedRelease, finding
from ncen_updater.publisher.lint.sqltext import is_single_select

__all__ = ["questions", "unmapped_codes"]


def questions(release: LintedRelease) -> Iterator[Finding]:
    """Questions are single SELECTs, and there is one about lost records."""
    manifest = release.manifest
    asked = [(c.name, sql) for c in manifest.checks for sql in (c.sql, c.sql_after) if sql]
    asked += [(item.name, item.unmapped) for item in manifest.reference_maps]
    for name, sql in asked:
        if not is_single_select(sql):
            yield finding(
                7117,
                Severity.STRICT,
                N_("The SQL of '{name}' is not one SELECT."),
                N_("Ask one question that changes nothing."),
                name=name,
            )
    for item in manifest.reference_maps:
        if not item.strict:
            yield finding(
                7118,
                Severity.ADVISORY,
                N_("Rows that '{name}' does not map are reported but do not stop the upgrade."),
                N_("Set 'strict = true', or say in the notes what becomes of such rows."),
                name=item.name,
            )
    if manifest.databases and any(release.new_migrations()) and not manifest.checks:
        yield finding(
            7119,
            Severity.ADVISORY,
            N_("The release changes data and no check asks whether any was lost."),
            N_("Add [[checks]] such as: cases before = cases after."),
        )


def unmapped_codes(release: LintedRelease) -> Iterator[Finding]:
    """Every old code of a map stands, quoted, in a migration of its database.

    This reads text and does not understand SQL: it finds the class that was forgotten, and not the
    one that is mapped to the wrong place.
    """
    names = frozenset(release.files)
    for item in release.manifest.reference_maps:
        said = "\n".join(
            release.read(path)
            for database, migration in release.migrations()
            if database == item.database
            for path in migration_files(migration, names)[0]
        )
        for code in item.codes:
            if f"'{code}'" not in said:
                yield finding(
                    7123,
                    Severity.STRICT,
                    N_("'{name}': no migration says what becomes of the class {code}."),
                    N_("Map it in a migration, as a quoted value, or take it out of 'codes'."),
                    name=item.name,
                    code=code,
                )
