"""Callers of the interface, their rights, and what requests use."""

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

#: At most so many members of a group are named.
MAX_MEMBERS_SHOWN = 10


class ApiRole(StrEnum):
    """What somebody may do."""

    READ = "read"
    OPERATE = "operate"
    APPROVE = "approve"


@dataclass(frozen=True)
class Caller:
    """User who sent a request.

    Attributes:
        actor: The user.
        roles: Their rights.
        groups: Group that has each right, for a refusal.
    """

    actor: Actor
    roles: frozenset[ApiRole]
    groups: Mapping[ApiRole, str] = field(default_factory=dict)

    def require_role(
        self, role: ApiRole, message: ErrorMessage | None = None, **values: object
    ) -> None:
        """Refuse a caller without a right.

        Args:
            role: The right.
            message: A message that says more than that the right is missing.
            **values: Values of the message.

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

    Operators and approvers are viewers, too; an approver is no operator. Root and the user of the
    service have every right: they could write to the journal anyway.

    Args:
        uid: Number of the user.
        group_ids: Numbers of all groups of the user.
        role_groups: Group of each right; None where this machine has no such group.
        service_uid: Number of the user of the service.
    """
    if uid in (0, service_uid):
        return frozenset(ApiRole)
    found = {
        role for role, group in role_groups.items() if group is not None and group in group_ids
    }
    return frozenset(found | {ApiRole.READ}) if found else frozenset()


def list_group_members(group: str) -> tuple[str, ...]:
    """Return the names of the members of a group; none where there is no such group."""
    try:
        entry = grp.getgrnam(group)
    except KeyError:
        return ()
    # The group of a user's own entry does not list the user.
    first = {user.pw_name for user in pwd.getpwall() if user.pw_gid == entry.gr_gid}
    return tuple(sorted(first.union(entry.gr_mem)))


def _format_members(group: str) -> str:
    """Return the members of a group in brackets; nothing where there are none."""
    names = list_group_members(group)
    more = ["..."] if len(names) > MAX_MEMBERS_SHOWN else []
    shown = ", ".join([*names[:MAX_MEMBERS_SHOWN], *more])
    return f" ({shown})" if shown else ""


def identify_caller(uid: int, settings: ServiceSettings) -> Caller:
    """Return the user with a number that the kernel gave.

    Groups are read at each request: a user who is removed from a group loses the right at once,
    also in open sessions.
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
    """What requests use.

    Attributes:
        config_path: The configuration file.
        essential_settings: Its places.
        state_file: State of the service.
        snapshots: Current work of the service.
        wake: Wakes the service.
        now: The wall clock.
        inspections: Queue of inspections.
        agent_directory: Where the slots of the agent are.
        read_availability: Reads whether users can work; this process probes without it.
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
        """Return where the journal is."""
        return self.essential_settings.state / JOURNAL_FILE

    def open_journal(self) -> Journal:
        """Open the journal for reading; a context manager.

        Raises:
            UpdaterError: If it is missing or unreadable.
        """
        return Journal.open(self.journal_path, read_only=True)

    @contextmanager
    def write_journal(self) -> Iterator[Journal]:
        """Open the journal for writing, and wake the service after it; see :meth:`open_journal`."""
        with Journal.open(self.journal_path) as journal:
            yield journal
        self.wake()

    def load_service_state(self) -> ServiceState:
        """Load what the service knew at its last check."""
        return self.state_file.load()

    def load_assessment(self) -> Assessment | None:
        """Load the service's last assessment of the next release."""
        return self.load_service_state().assessment
