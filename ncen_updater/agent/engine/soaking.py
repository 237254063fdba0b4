"""The watched time after a commit, and how a person ends it. Light: the service uses it too."""

from __future__ import annotations

from ncen_updater.agent.engine.pending_rollback import pending_rollback
from ncen_updater.agent.model.change import Change
from ncen_updater.agent.model.facts import ChangeFacts
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import NOTHING_TO_CONFIRM


def in_soak(journal: Journal) -> Change:
    """Return the change whose release is watched, or is to be taken back and was not yet.

    Raises:
        NothingToConfirm: If there is none.
    """
    owed = pending_rollback(journal)
    if owed is not None:
        return owed.change
    change = journal.open_change()
    if change is None or not change.committed:
        raise UpdaterError(NOTHING_TO_CONFIRM)
    return change


def confirm(journal: Journal, by: str) -> Change:
    """Write that the release is good; the process that watches sees it, or a resume does.

    What was to bring its migrations to their end, and failed, is left so.

    Raises:
        NothingToConfirm: If there is nothing to confirm.
    """
    change = in_soak(journal)
    left = True if journal.facts(change.id).contract_failed is not None else None
    journal.keep(change.id, ChangeFacts(confirmed_by=by, contract_left=left))
    journal.note("confirmed", change.id, by=by)
    return change
