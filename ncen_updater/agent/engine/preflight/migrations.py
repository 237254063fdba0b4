"""Checks that the migrations continue the history of the databases.

They read the live ledgers before the downtime, since a fence closes the live databases. The
migration reads the ledgers of the candidates later.
"""

from __future__ import annotations

import getpass
import shlex
from collections.abc import Iterator

from ncen_updater.agent.adapters.databases.base import DatabaseEngine, LiveDatabase, MigrationSet
from ncen_updater.agent.adapters.databases.migrations.migrator import resolve_program
from ncen_updater.agent.adapters.databases.migrations.planner import (
    is_copy_free_upgrade,
    is_expand_upgrade,
)
from ncen_updater.agent.engine.preflight.base import (
    PreflightContext,
    make_advisory,
    make_blocker,
    make_info,
    register_check,
)
from ncen_updater.agent.model.errors import DatabaseUnreachableError, MigrationRefusedError
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import N_, LazyText

#: Remedy if the databases differ from the recorded history.
MISMATCH_REMEDY = N_(
    "Do not upgrade. Run ncen-updater support-bundle and send the file to the Secretariat."
)


@register_check(156, upgrade_only=True)
def check_unapplied_migrations(context: PreflightContext) -> tuple[Finding, ...]:
    """Check for migrations of the installed release that are not applied (NU-6107)."""
    return (
        ()
        if context.origin is None
        else tuple(find_unapplied_migrations(context.engine, context.origin))
    )


def find_unapplied_migrations(
    engine: DatabaseEngine, migrations: MigrationSet
) -> Iterator[Finding]:
    """Yield NU-6107 for each migration of the installed release that a database lacks."""
    if migrations.migrator is not None:
        return
    try:
        plan = engine.plan_migrations(LiveDatabase, migrations, None)
    except UpdaterError as error:
        # An unreachable server has its own remedy.
        remedy = (
            error.remedy_text
            if isinstance(error, DatabaseUnreachableError)
            else LazyText(MISMATCH_REMEDY)
        )
        figures: dict[str, object] = {"detail": error.detail} if error.detail else {}
        yield Finding(error.code, Severity.CRITICAL, error.title_text, remedy, figures)
        return
    for step in plan.steps:
        yield make_blocker(
            6107,
            N_("Migration {migration} of the installed release is not applied to {database}"),
            MISMATCH_REMEDY,
            migration=step.id,
            database=step.database,
        )


@register_check(160, upgrade_only=True)
def check_migrations(context: PreflightContext) -> tuple[Finding, ...]:
    """Check the migrations: NU-6320 wrong history, NU-6321, NU-6324 data loss, NU-6337 program."""
    if context.target is None:
        title = N_("Migrations are checked after the download")
        return (make_info(6322, title, ""),)
    try:
        plan = context.engine.plan_migrations(LiveDatabase, context.target, context.origin)
    except MigrationRefusedError as error:
        return (
            make_blocker(
                6320,
                N_("Migrations do not match the history of the databases: {reason}"),
                MISMATCH_REMEDY,
                reason=str(error),
                code=error.code,
            ),
        )
    if context.origin is not None and is_copy_free_upgrade(plan, context.target, context.origin):
        return ()
    if context.target.migrator is not None:
        reasons = {reason for _, _, reason in plan.irreversible}
        user = context.engine.find_migrator_user()
        for program in filter(None, (context.target.migrator, context.target.contract_program)):
            resolve_program(program, context.target.slot)
        program_finding = make_advisory(
            6337,
            N_("The release migrates the databases with its own program: {command}"),
            N_("It runs as {user}, with the permissions of the application."),
            command=shlex.join(context.target.migrator.argv),
            user=user.name if user else getpass.getuser(),
        )
        if _is_previous_release_usable(context):
            return (program_finding,)
        return (
            program_finding,
            make_advisory(
                6324,
                N_("Rollback loses new records if the program changes data: {reason}"),
                N_("Rehearse the release to find out."),
                reason="; ".join(sorted(reasons)),
            ),
        )
    return tuple(
        make_advisory(
            6321,
            N_(
                "Rollback loses new records: migration {migration} of {database} is"
                " irreversible: '{reason}'"
            ),
            N_("Decide before the upgrade whether that is acceptable."),
            database=database,
            migration=migration,
            reason=reason,
        )
        for database, migration, reason in plan.irreversible
    )


def _is_previous_release_usable(context: PreflightContext) -> bool:
    """Tell whether the program runs before the downtime and the previous release works after it."""
    target, origin = context.target, context.origin
    if target is None or origin is None or not context.engine.supports_online_programs:
        return False
    return is_expand_upgrade(target, origin)
