"""Expand and contract programs of a release, run on the live databases while users work.

*Expand* is the migrator itself, before the downtime: both signed releases declare that the older
one works on its result, even a partial one. *Contract* is a separate program after the soak period:
it completes the migrations in the background, and ``compatible_down_to`` of the release declares
that the older one works on that result, too. Both may be repeated. So nothing has to be undone: a
failure or a kill at any instant leaves databases with which the installed release works. Only the
journal must follow, since a changed schema blocks rehearsals: see :func:`record_live_schemas`.

The programs run at the end of the steps *preflight* and *soak*.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

from ncen_updater.agent.adapters.databases.base import LiveDatabase, MigrationSet
from ncen_updater.agent.engine.observed_state import CONTRACTED, EXPANDED, read_recorded_state
from ncen_updater.agent.engine.raw_errors import add_raw_error_path, store_raw_error
from ncen_updater.agent.engine.schema_fingerprints import find_schema_drift, read_schemas
from ncen_updater.agent.engine.site import Site, StepContext
from ncen_updater.agent.model.change import Change, ChangeKind
from ncen_updater.agent.model.change_facts import ChangeFacts
from ncen_updater.agent.model.errors import DatabaseUnreachableError, LockUnusableError
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.findings import Severity
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import (
    CONTRACT_FAILED,
    EXPAND_FAILED,
    EXPAND_RUNNING,
    INTERRUPTED,
)
from ncen_updater.common.supervised_process import try_lock

#: Lock file in the state directory; locked while a program works on the live databases.
EXPAND_LOCK = "expand.lock"
#: Time limit for the end of an earlier program; if its agent was killed, its supervisor ends it at
#: once.
PROGRAM_WAIT_S, POLL_INTERVAL_S = 30.0, 0.05

#: Event: the contract program failed.
CONTRACT_FAILED_EVENT = "contract-failed"

EXPAND_TITLE = LazyText(N_("migrating the databases before the downtime"))
CONTRACT_TITLE = LazyText(N_("completing the migrations after the soak period"))


def run_expand(context: StepContext) -> None:
    """Run the release's migrator on the live databases.

    Raises:
        EXPAND_FAILED: The migrator failed. The release is not marked bad, since the migrator may
            have waited in vain for a lock of a user.
        EXPAND_RUNNING: An earlier program is still running.
        DatabaseUnreachableError: The server cannot be reached.
    """
    site = context.site
    context.progress.report(EXPAND_TITLE)
    target = site.load_migrations(context.target_version)
    with _hold_program_lock(site) as lock_fd:
        as_recorded = _are_schemas_as_recorded(site, context.journal)
        context.journal.store_facts(context.change.id, ChangeFacts(expand_started=as_recorded))
        try:
            if target.migrator is not None:
                site.database_engine.run_online_program(
                    target.migrator, target.slot, context.progress, lock_fd=lock_fd
                )
        except DatabaseUnreachableError:
            raise
        except UpdaterError as error:
            raw_error_path = store_raw_error(site.state_directory, context.change.id, error)
            raise UpdaterError(
                EXPAND_FAILED,
                version=context.change.to_version,
                current=context.change.from_version,
                cause=error.title_text,
                cause_remedy=add_raw_error_path(error.remedy_text, raw_error_path),
                detail=error.detail,
            ).with_raw_error(error.raw_error) from error


def needs_contract(
    change: Change, facts: ChangeFacts, target: MigrationSet, *, runs_online: bool
) -> bool:
    """Tell whether the contract program of a change must still run; pure.

    It does not run if no migrator ran, or if an operator confirmed the release after its failure.

    Args:
        change: The change.
        facts: Its facts.
        target: Migrations of its release.
        runs_online: Whether the engine runs programs on live databases; otherwise the contract
            program ran with the migrator.
    """
    migrated = facts.has_expand or not facts.no_copy
    return (
        runs_online
        and change.kind is ChangeKind.UPGRADE
        and target.contract_program is not None
        and bool(migrated)
        and not facts.contract_abandoned
        and facts.contract_s is None
    )


def run_contract(context: StepContext) -> None:
    """Run the release's contract program on the live databases, and record the schemas after it.

    Raises:
        CONTRACT_FAILED: The program failed; the release keeps running, and the program is retried.
        EXPAND_RUNNING: An earlier program is still running.
        DatabaseUnreachableError: The server cannot be reached.
    """
    site, journal, change = context.site, context.journal, context.change
    context.progress.report(CONTRACT_TITLE)
    target = site.load_migrations(context.target_version)
    started = site.clock.monotonic()
    with _hold_program_lock(site) as lock_fd:
        if context.read_facts().contract_started is None:
            # Only before the first attempt: a partial run has already changed the schema.
            as_recorded = _are_schemas_as_recorded(site, journal)
            journal.store_facts(change.id, ChangeFacts(contract_started=as_recorded))
        try:
            if target.contract_program is not None:
                site.database_engine.run_online_program(
                    target.contract_program, target.slot, context.progress, lock_fd=lock_fd
                )
        except DatabaseUnreachableError:
            raise
        except UpdaterError as error:
            if error.message is INTERRUPTED:
                raise
            raise _record_contract_failure(context, error) from error
    record_live_schemas(site, journal, change)
    duration = ChangeFacts(contract_s=round(site.clock.monotonic() - started, 3))
    journal.store_facts(change.id, duration)


def _record_contract_failure(context: StepContext, error: UpdaterError) -> UpdaterError:
    """Record the failure and the schemas it left; return the error to raise."""
    site, journal, change = context.site, context.journal, context.change
    raw_error_path = store_raw_error(site.state_directory, change.id, error)
    journal.store_facts(change.id, ChangeFacts(contract_failed=error.code))
    values = {"code": error.code, "error": error.full_text}
    journal.record_event(
        CONTRACT_FAILED_EVENT,
        change.id,
        **values,
        **({"raw_error": str(raw_error_path)} if raw_error_path else {}),
    )
    record_live_schemas(site, journal, change, lock_held=True)
    return UpdaterError(
        CONTRACT_FAILED,
        product=change.product,
        version=change.to_version,
        cause=error.title_text,
        cause_remedy=add_raw_error_path(error.remedy_text, raw_error_path),
        detail=error.detail,
    ).with_raw_error(error.raw_error)


def record_live_schemas(
    site: Site, journal: Journal, change: Change, *, lock_held: bool = False
) -> None:
    """Record the schemas after a program worked on them; can be repeated after a crash.

    Nothing is recorded if no program was begun, or if the schemas had not matched the journal
    before it: then they may contain changes by somebody else.

    Args:
        site: The site.
        journal: The journal, open for writing.
        change: The change whose program ran and ended, or that was reverted.
        lock_held: Whether this process already holds the lock of a running program.

    Raises:
        EXPAND_RUNNING: The program is still running.
    """
    facts = journal.read_facts(change.id)
    if not (facts.contract_started if change.is_committed else facts.expand_started):
        return
    with contextlib.nullcontext() if lock_held else _hold_program_lock(site):
        if lock_held:
            # The program may have been killed in the middle.
            _wait_for_program(site, site.database_engine.terminate_online_program)
        schemas = read_schemas(site.database_engine, LiveDatabase)
    if read_recorded_state(journal).fingerprints != schemas.fingerprints:
        journal.record_event(
            CONTRACTED if change.is_committed else EXPANDED,
            change.id,
            fingerprints=dict(schemas.fingerprints),
            schema_kinds={name: dict(kinds) for name, kinds in schemas.kinds.items()},
        )


def _are_schemas_as_recorded(site: Site, journal: Journal) -> bool:
    """Tell whether the schemas match the journal, so that later changes are the program's.

    A change that somebody else makes while the program runs cannot be told from the program's own.
    """
    findings = find_schema_drift(site, journal)
    return not any(finding.severity is Severity.CRITICAL for finding in findings)


@contextlib.contextmanager
def _hold_program_lock(site: Site) -> Iterator[int]:
    """Hold the program lock, which a program's supervisor also holds, even if its agent has ended.

    Raises:
        EXPAND_RUNNING: An earlier program does not end in time.
        LockUnusableError: The lock file cannot be created, for example on a full disk.
    """
    path = site.state_directory / EXPAND_LOCK
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise LockUnusableError(path=path, reason=error.strerror or str(error)) from error
    try:
        _wait_for_program(
            site, lambda: try_lock(descriptor) and site.database_engine.terminate_online_program()
        )
        yield descriptor
    finally:
        os.close(descriptor)


def _wait_for_program(site: Site, has_ended: Callable[[], bool]) -> None:
    """Wait until no part of an earlier program is running.

    Raises:
        EXPAND_RUNNING: It does not end in time.
    """
    deadline = site.clock.monotonic() + PROGRAM_WAIT_S
    while not has_ended():
        if site.clock.monotonic() >= deadline:
            raise UpdaterError(EXPAND_RUNNING, seconds=f"{PROGRAM_WAIT_S:g}")
        site.clock.wait(POLL_INTERVAL_S)
