"""What programs of a release do to the live databases while officers work: expand and contract.

*Expand* is the migrator itself, before the stop: both releases say under the officers' signatures
that the older one runs on what comes of it, also on a part of it. *Contract* is a program of its
own, once the release was watched: it brings the migrations to their end in the background, and a
release whose ``back_to`` goes back says that the older one runs on what comes of that, too. Both
may be repeated. So nothing here has to be undone: a failure or a kill at any instant leaves
databases that the release in use works with. What has to be true afterwards is the journal, since
a changed schema bars rehearsals: see :func:`note_what_stays`.

They are the end of the steps *preflight* and *soak*.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

from ncen_updater.agent.adapters.databases.base import Live, MigrationSet
from ncen_updater.agent.engine.fingerprints import schema_findings, schemas_of
from ncen_updater.agent.engine.full_words import full_remedy, keep_full
from ncen_updater.agent.engine.site import Site, StepContext
from ncen_updater.agent.engine.situation import CONTRACTED, EXPANDED, known
from ncen_updater.agent.model.change import Change, ChangeKind
from ncen_updater.agent.model.errors import DatabaseUnreachable, LockUnusable
from ncen_updater.agent.model.facts import ChangeFacts
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.findings import Severity
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import (
    CONTRACT_FAILED,
    EXPAND_FAILED,
    EXPAND_UNDER_WAY,
    INTERRUPTED,
)
from ncen_updater.common.supervised import taken

#: Whose program works on live databases, in the state directory.
EXPAND_LOCK = "expand.lock"
#: What an agent that was killed left at work is ended by its supervisor, at once.
LIMIT_S, LOOK_S = 30.0, 0.05

#: Event: what was to bring the migrations to their end failed.
NOT_CONTRACTED = "contract-failed"

EXPANDING = Text(N_("migrating the databases while officers work"))
CONTRACTING = Text(N_("bringing the migrations to their end while officers work"))


def expand(context: StepContext) -> None:
    """Run the release's migrator on the live databases.

    Raises:
        ExpandFailed: It failed. That is no verdict on the release: it may have waited in vain for
            what an officer held.
        ExpandUnderWay: One of before is still at work.
        DatabaseUnreachable: The server is gone.
    """
    site = context.site
    context.progress.tell(EXPANDING)
    target = site.migrations(context.target_version)
    with _alone(site) as kept:
        as_recorded = _as_recorded(site, context.journal)
        context.journal.keep(context.change.id, ChangeFacts(expanded=as_recorded))
        try:
            if target.command is not None:
                site.engine.run_beside(target.command, target.slot, context.progress, kept=kept)
        except DatabaseUnreachable:
            raise
        except UpdaterError as error:
            full = keep_full(site.state, context.change.id, error)
            raise UpdaterError(
                EXPAND_FAILED,
                version=context.change.to_version,
                current=context.change.from_version,
                cause=error.what_text,
                cause_remedy=full_remedy(error.remedy_text, full),
                detail=error.detail,
            ).privately(error.private) from error


def contracts(change: Change, facts: ChangeFacts, target: MigrationSet, *, beside: bool) -> bool:
    """Whether a program is still to bring the migrations of a change to their end; pure.

    Not where no migrator ran, nor once a person left it after a failure.

    Args:
        change: The change.
        facts: Its facts.
        target: Migrations of its release.
        beside: Whether the engine runs programs on live databases; else it ran with the migrator.
    """
    ran = facts.expands or not facts.as_is
    return (
        beside
        and change.kind is ChangeKind.UPGRADE
        and target.contract is not None
        and bool(ran)
        and not facts.contract_left
        and facts.contract_s is None
    )


def contract(context: StepContext) -> None:
    """Run the release's second program on the live databases, and write down what they are then.

    Raises:
        ContractFailed: It failed; the release runs on, and it is tried again.
        ExpandUnderWay: One of before is still at work.
        DatabaseUnreachable: The server is gone.
    """
    site, journal, change = context.site, context.journal, context.change
    context.progress.tell(CONTRACTING)
    target = site.migrations(context.target_version)
    began = site.clock.monotonic()
    with _alone(site) as kept:
        if context.facts().contracted is None:
            # Once: a part of it changes the schema already.
            as_recorded = _as_recorded(site, journal)
            journal.keep(change.id, ChangeFacts(contracted=as_recorded))
        try:
            if target.contract is not None:
                site.engine.run_beside(target.contract, target.slot, context.progress, kept=kept)
        except DatabaseUnreachable:
            raise
        except UpdaterError as error:
            if error.message is INTERRUPTED:
                raise
            raise _contract_failed(context, error) from error
    note_what_stays(site, journal, change)
    took = ChangeFacts(contract_s=round(site.clock.monotonic() - began, 3))
    journal.keep(change.id, took)


def _contract_failed(context: StepContext, error: UpdaterError) -> UpdaterError:
    """Write down that it failed, and what it left; return what is told."""
    site, journal, change = context.site, context.journal, context.change
    full = keep_full(site.state, change.id, error)
    journal.keep(change.id, ChangeFacts(contract_failed=error.code))
    values = {"code": error.code, "error": str(error)[:2000]}
    journal.note(NOT_CONTRACTED, change.id, **values, **({"full": str(full)} if full else {}))
    note_what_stays(site, journal, change, held=True)
    return UpdaterError(
        CONTRACT_FAILED,
        product=change.product,
        version=change.to_version,
        cause=error.what_text,
        cause_remedy=full_remedy(error.remedy_text, full),
        detail=error.detail,
    ).privately(error.private)


def note_what_stays(site: Site, journal: Journal, change: Change, *, held: bool = False) -> None:
    """Write down what the schemas are, now that a program worked on them; again after a crash.

    Not where none was begun, nor where the schema was another one before: then it is somebody
    else's, too.

    Args:
        site: The site.
        journal: Open for writing.
        change: Whose program: one that was undone or is left, or whose program has ended.
        held: Whether this process holds already what a program holds while it is at work.

    Raises:
        ExpandUnderWay: It is still at work.
    """
    facts = journal.facts(change.id)
    if not (facts.contracted if change.commit_written else facts.expanded):
        return
    with contextlib.nullcontext() if held else _alone(site):
        if held:
            _wait(site, site.engine.end_beside)  # it may have been ended in the middle
        found = schemas_of(site.engine, Live)
    if known(journal).fingerprints != found.fingerprints:
        journal.note(
            CONTRACTED if change.commit_written else EXPANDED,
            change.id,
            fingerprints=dict(found.fingerprints),
            schema_kinds={name: dict(kinds) for name, kinds in found.kinds.items()},
        )


def _as_recorded(site: Site, journal: Journal) -> bool:
    """Whether the schemas are as the journal has them, so that what comes is the program's alone.

    Of what somebody changes beside a program that is at work nobody can say whose it is.
    """
    found = schema_findings(site, journal)
    return not any(finding.severity is Severity.STRICT for finding in found)


@contextlib.contextmanager
def _alone(site: Site) -> Iterator[int]:
    """Hold what the supervisor of a program holds as long as that runs, also when its agent ended.

    Raises:
        ExpandUnderWay: It does not come to its end.
        LockUnusable: The file cannot be made, as on a full disk.
    """
    path = site.state / EXPAND_LOCK
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise LockUnusable(path=path, reason=error.strerror or str(error)) from error
    try:
        _wait(site, lambda: taken(descriptor) and site.engine.end_beside())
        yield descriptor
    finally:
        os.close(descriptor)


def _wait(site: Site, over: Callable[[], bool]) -> None:
    """Wait until nothing of a program is at work any more.

    Raises:
        ExpandUnderWay: It does not come to its end.
    """
    deadline = site.clock.monotonic() + LIMIT_S
    while not over():
        if site.clock.monotonic() >= deadline:
            raise UpdaterError(EXPAND_UNDER_WAY, seconds=f"{LIMIT_S:g}")
        site.clock.wait(LOOK_S)
