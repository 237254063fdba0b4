"""Callers of the API, their roles, and the resources of requests."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
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
from ncen_updater.agent.service.inspections import InspectionQueue
from ncen_updater.agent.service.snapshot import SnapshotStore
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.service_state import Assessment, ServiceState, ServiceStateFile
from ncen_updater.common.messages import NOT_ALLOWED, ErrorMessage

#: Maximum number of group members listed in a refusal.
MAX_MEMBERS_SHOWN = 10


class ApiRole(StrEnum):
    """Role of a user."""

    READ = "read"
    OPERATE = "operate"
    APPROVE = "approve"


@dataclass(frozen=True)
class Caller:
    """User who sent a request.

    Attributes:
        actor: The user.
        roles: The user's roles.
        groups: Group of each role, for the text of a refusal.
    """

    actor: Actor
    roles: frozenset[ApiRole]
    groups: Mapping[ApiRole, str] = field(default_factory=dict)

    def require_role(
        self, role: ApiRole, message: ErrorMessage | None = None, **values: object
    ) -> None:
        """Refuse a caller without a role.

        Args:
            role: The role.
            message: A more specific message than the default.
            **values: Values of the message.

        Raises:
            RequestRefusedError: If the caller lacks the role.
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
    """Return the roles of a user. Pure.

    Operators and approvers are viewers as well; an approver is not an operator. Root and the user
    of the service have every role: they could write to the journal anyway.

    Args:
        uid: UID of the user.
        group_ids: GIDs of all groups of the user.
        role_groups: GID of each role's group; None if this machine has no such group.
        service_uid: UID of the service's user.
    """
    if uid in (0, service_uid):
        return frozenset(ApiRole)
    roles = {
        role for role, group in role_groups.items() if group is not None and group in group_ids
    }
    return frozenset(roles | {ApiRole.READ}) if roles else frozenset()


def list_group_members(group: str) -> tuple[str, ...]:
    """Return the names of a group's members; empty if the group does not exist."""
    try:
        entry = grp.getgrnam(group)
    except KeyError:
        return ()
    # The member list of a group does not include users with that group as primary group.
    primary_members = {user.pw_name for user in pwd.getpwall() if user.pw_gid == entry.gr_gid}
    return tuple(sorted(primary_members.union(entry.gr_mem)))


def _format_members(group: str) -> str:
    """Return the members of a group in brackets; empty without members."""
    names = list_group_members(group)
    ellipsis = ["..."] if len(names) > MAX_MEMBERS_SHOWN else []
    shown = ", ".join([*names[:MAX_MEMBERS_SHOWN], *ellipsis])
    return f" ({shown})" if shown else ""


def identify_caller(uid: int, settings: ServiceSettings) -> Caller:
    """Return the caller with the UID that the kernel reported.

    The groups are read for each request: a user who is removed from a group loses the role at once,
    even in open sessions.
    """
    try:
        entry = pwd.getpwuid(uid)
        actor = Actor(entry.pw_name, uid)
        groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
    except KeyError:
        actor, groups = Actor(f"uid {uid}", uid), []
    names = {
        ApiRole.READ: settings.viewer_group,
        ApiRole.OPERATE: settings.operator_group,
        ApiRole.APPROVE: settings.approver_group,
    }
    group_ids = {role: find_group_id(name) for role, name in names.items()}
    return Caller(actor, resolve_roles(uid, groups, group_ids, service_uid=os.geteuid()), names)


@dataclass(frozen=True)
class ApiContext:
    """Resources of the requests.

    Attributes:
        config_path: The configuration file.
        essential_settings: Paths and site settings from it.
        state_file: State of the service.
        snapshots: Current work of the service.
        wake: Wakes the service.
        now: The wall clock.
        inspections: Queue of inspections.
        agent_directory: Directory of the agent's slots.
        read_availability: Returns the availability; without it this process probes it.
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
        """Return the path of the journal."""
        return self.essential_settings.state / JOURNAL_FILE

    def open_journal(self) -> Journal:
        """Open the journal for reading, as a context manager.

        Raises:
            UpdaterError: If it is missing or unreadable.
        """
        return Journal.open(self.journal_path, read_only=True)

    @contextmanager
    def write_journal(self) -> Iterator[Journal]:
        """Open the journal for writing, then wake the service; see :meth:`open_journal`."""
        with Journal.open(self.journal_path) as journal:
            yield journal
        self.wake()

    def load_service_state(self) -> ServiceState:
        """Return the service's stored state."""
        return self.state_file.load()

    def load_assessment(self) -> Assessment | None:
        """Return the service's last assessment of the next upgrade."""
        return self.load_service_state().assessment
