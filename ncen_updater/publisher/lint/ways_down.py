"""Rules of ``lint`` about ways down: what they do not keep of what officers may have entered.

What that is, is decided by :mod:`ncen_updater.formats.losses`, here and on the sites.
"""

from __future__ import annotations

from collections.abc import Iterator

from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import N_
from ncen_updater.formats.losses import How, Loss, losses
from ncen_updater.formats.manifest import Migration, path_for
from ncen_updater.formats.sql import ENGINES, bad_content
from ncen_updater.publisher.lint.release import LintedRelease, finding


def ways_down(release: LintedRelease) -> Iterator[Finding]:
    """A way down keeps what was entered, or the release says what it does not keep."""
    for database, migration in release.new_migrations():
        declared = {name.lower() for name in migration.loses or ()}
        found: dict[tuple[str, bool, bool], Loss] = {}
        for loss in _losses(release, migration):
            found.setdefault((loss.object, loss.how is How.REFUSES, loss.own), loss)
        for loss in found.values():
            if not {loss.object, loss.table} & declared:
                yield _found(database, migration, loss)
        if migration.loses:
            yield finding(
                7128,
                Severity.ADVISORY,
                N_("{down} of {database} does not keep {objects}: so says the release."),
                N_(
                    "Be sure of it: sites are told before the upgrade and before they go back, and"
                    " a release that turns bad is then not taken back without being asked."
                ),
                down=migration.down,
                database=database,
                objects=", ".join(migration.loses),
            )


def _losses(release: LintedRelease, migration: Migration) -> Iterator[Loss]:
    if migration.down is None:
        return
    for engine in ENGINES:
        paths = [path_for(engine, place) for place in (migration.up, migration.down)]
        if not all(path in release.files for path in paths):
            continue
        contents = [release.read_bytes(path) for path in paths]
        if not any(bad_content(content) for content in contents):
            up, down = (content.decode("utf-8") for content in contents)
            yield from losses(up, down, engine)


def _found(database: str, migration: Migration, loss: Loss) -> Finding:
    values: dict[str, object] = {
        "down": migration.down,
        "database": database,
        "object": loss.object,
        "line": loss.line,
    }
    if loss.how is How.REFUSES:
        return finding(
            7130,
            Severity.STRICT,
            N_(
                "{down}, line {line}: what officers enter in {database}.{object} may break a rule"
                " that is added there, and going back would then fail."
            ),
            N_(
                "Change such rows first and park their values in 'ncen_kept', or name the object in"
                " 'loses' of the migration."
            ),
            **values,
        )
    if loss.own:
        return finding(
            7129,
            Severity.ADVISORY,
            N_(
                "{down}, line {line}: of {database}.{object} only the rows come back that the"
                " release itself puts there."
            ),
            N_("Park it in 'ncen_kept' too, if officers or administrators can add to it."),
            **values,
        )
    return finding(
        7127,
        Severity.STRICT,
        N_(
            "{down}, line {line}: what officers enter in {database}.{object} is lost on the way"
            " back."
        ),
        N_(
            "Park it first, in the schema 'ncen_kept' on PostgreSQL or in tables 'ncen_kept__...'"
            " on SQLite, and bring it back in 'up'; or name it in 'loses' of the migration."
        ),
        **values,
    )
