"""The watched time after a commit, and how a person ends it. Light: the service uses it too."""

from __future__ import annotations

from ncen_updater.agent.engine.pending_rollback import find_pending_rollback
from ncen_updater.agent.model.change import Change
from ncen_updater.agent.model.change_facts import ChangeFacts
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import NOTHING_TO_CONFIRM


def require_soaking(journal: Journal) -> Change:
    """Return the change whose release is watched, or is to be taken back and was not yet.

    Raises:
        NOTHING_TO_CONFIRM: If there is none.
    """
    pending = find_pending_rollback(journal)
    if pending is not None:
        return pending.change
    change = journal.find_open_change()
    if change is None or not change.is_open_after_commit:
        raise UpdaterError(NOTHING_TO_CONFIRM)
    return change


def confirm_release(journal: Journal, actor: str) -> Change:
    """Write that the release is good; the process that watches sees it, or a resume does.

    What was to bring its migrations to their end, and failed, is left so.

    Raises:
        NOTHING_TO_CONFIRM: If there is nothing to confirm.
    """
    change = require_soaking(journal)
    left = True if journal.read_facts(change.id).contract_failed is not None else None
    journal.store_facts(change.id, ChangeFacts(confirmed_by=actor, contract_abandoned=left))
    journal.record_event("confirmed", change.id, by=actor)
    return change
