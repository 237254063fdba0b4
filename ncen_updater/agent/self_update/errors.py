"""Errors of the agent's own renewal and installation. Codes 9401 to 9499."""

from __future__ import annotations

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import AGENT_SLOT_FAILED, SEQUENCE_DAMAGED


class SequenceDamaged(UpdaterError):
    """The file that says which agent is chosen is not what it should be."""

    message = SEQUENCE_DAMAGED


class AgentSlotFailed(UpdaterError):
    """A slot of the agent that cannot be made, or does not work."""

    message = AGENT_SLOT_FAILED
