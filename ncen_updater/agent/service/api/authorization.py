"""Who asks, and what they may do."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from ncen_updater.agent.adapters.rights import find_group_id
from ncen_updater.agent.config.essential_settings import EssentialSettings
from ncen_updater.agent.config.service import ServiceSettings
from ncen_updater.agent.model.change import Actor
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.policy.availability import Availability
from ncen_updater.agent.service.errors import RequestRefusedError
from ncen_updater.agent.service.inspecting import InspectionQueue
from ncen_updater.agent.service.snapshot import SnapshotStore
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.service_state import Assessment, ServiceState, ServiceStateFile
from ncen_updater.common.messages import NOT_ALLOWED, ErrorMessage

#: So many names are told.
MAX_MEMBERS_SHOWN = 10


class ApiRole(StrEnum):
    """What somebody may do."""

    READ = "read"
    OPERATE = "operate"
    APPROVE = "approve"


@dataclass(frozen=True)
class Caller:
    """Who asks.

    Attributes:
        actor: Who.
        roles: What they may do.
        groups: The group that has a right, for whoever lacks it.
    """

    actor: Actor
    roles: frozenset[ApiRole]
    groups: Mapping[ApiRole, str] = field(default_factory=dict)

    def require_role(
        self, role: ApiRole, message: ErrorMessage | None = None, **values: object
    ) -> None:
        """Refuse whoever has not this right.

        Args:
            role: The right.
            message: What is said of it, where more is known than that it is missing.
            **values: For the places of the message.

        Raises:
            RequestRefusedError: If so.
        """
        if role not in self.roles:
            group = self.groups.get(role, "-")
            raise RequestRefusedError(
                message or NOT_ALLOWED, who=self.actor.name, role=role.value, group=group,
                members=_format_members(group), **values,
            )  # fmt: skip


def resolve_roles(
    uid: int,
    group_ids: Collection[int],
    role_groups: Mapping[ApiRole, int | None],
    *,
    service_uid: int,
) -> frozenset[ApiRole]:
    """Return what a user may do; pure.

    Whoever operates or approves may look, too; one who approves does not operate by that. Root and
    the user that the service runs as may do everything: they could write into the journal anyway.

    Args:
        uid: Number of the user.
        group_ids: Numbers of all groups of the user.
        role_groups: The group that has a right; None where this machine has no such group.
        service_uid: Number of the user that the service runs as.
    """
    if uid in (0, service_uid):
        return frozenset(ApiRole)
    found = {
        role for role, group in role_groups.items() if group is not None and group in group_ids
    }
    return frozenset(found | {ApiRole.READ}) if found else frozenset()


def list_group_members(group: str) -> tuple[str, ...]:
    """Return who is in a group, by their names; nobody where there is no such group."""
    try:
        return tuple(sorted(grp.getgrnam(group).gr_mem))
    except KeyError:
        return ()


def _format_members(group: str) -> str:
    """Return who is in a group, for whoever looks for somebody; "-" where nobody is."""
    names = list_group_members(group)
    more = ["..."] if len(names) > MAX_MEMBERS_SHOWN else []
    return ", ".join([*names[:MAX_MEMBERS_SHOWN], *more]) or "-"


def identify_caller(uid: int, settings: ServiceSettings) -> Caller:
    """Return the person behind a number that the kernel gave.

    Groups are asked of the system's own lists at each request: whoever is taken out of a group
    loses the right at once, also in sessions that are open.
    """
    try:
        entry = pwd.getpwuid(uid)
        person = Actor(entry.pw_name, uid)
        groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
    except KeyError:
        person, groups = Actor(f"uid {uid}", uid), []
    names = {
        ApiRole.READ: settings.viewer_group,
        ApiRole.OPERATE: settings.operator_group,
        ApiRole.APPROVE: settings.approver_group,
    }
    wanted = {role: find_group_id(name) for role, name in names.items()}
    return Caller(person, resolve_roles(uid, groups, wanted, service_uid=os.geteuid()), names)


@dataclass(frozen=True)
class ApiContext:
    """Everything that requests may use.

    Attributes:
        config_path: The configuration file.
        essential_settings: What it says of places.
        state_file: The service's notes.
        snapshots: What goes on just now.
        wake: Tells the service that there is something to do.
        now: The wall clock.
        inspections: Have the site looked at.
        agent_directory: Where the slots of the agent are.
        read_availability: Asks whether users can work; the process itself without.
    """

    config_path: Path
    essential_settings: EssentialSettings
    state_file: ServiceStateFile
    snapshots: SnapshotStore
    wake: Callable[[], None]
    now: Callable[[], datetime]
    inspections: InspectionQueue
    agent_directory: Path
    read_availability: Callable[[], Availability] | None = None

    @property
    def journal_path(self) -> Path:
        """Where the journal is."""
        return self.essential_settings.state / JOURNAL_FILE

    def open_journal(self) -> Journal:
        """Open the journal to look; a context manager.

        Raises:
            UpdaterError: If it is missing or unreadable.
        """
        return Journal.open(self.journal_path, read_only=True)

    def open_journal_for_writing(self) -> Journal:
        """Open the journal to write; a context manager; errors as in :meth:`open_journal`."""
        return Journal.open(self.journal_path)

    def load_service_state(self) -> ServiceState:
        """Load what the service knew at its last check."""
        return self.state_file.load()

    def load_assessment(self) -> Assessment | None:
        """Load the service's last assessment of the next release."""
        return self.load_service_state().assessment
