"""Check who can read and write the agent's files: groups and trust state. Reads only.

``proved.json`` keeps revoked keys and withdrawn releases from coming back: anyone who can remove or
write it can undo that.

The local interface checks membership by the configured name; files on the disk got their group when
they were made, and that may be another one.
"""

from __future__ import annotations

import grp
import os
import stat
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ncen_updater.agent.adapters.rights import find_group_id
from ncen_updater.agent.config.agent_config import AgentConfig
from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.storage.inbox import Inbox
from ncen_updater.common.findings import Finding, Severity, make_finding
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.feed.feed_summary import get_view_path
from ncen_updater.feed.offers import load_view
from ncen_updater.feed.trust_state import (
    TRUST_STATE_LOCK_NAME,
    TRUST_STATE_NAME,
    TrustState,
    TrustStateStore,
)
from ncen_updater.formats.target_names import AGENT_PRODUCT

#: An access list as the kernel keeps it, acl(5): its head, an entry, and tags of entries.
ACL_ATTRIBUTE = "system.posix_acl_access"
ACL_HEADER_BYTES, ACL_ENTRY = 4, struct.Struct("<HHI")
ACL_GROUP_OBJ, ACL_GROUP, ACL_MASK = 0x04, 0x08, 0x10
PERMISSION_BITS = {"r": 4, "w": 2, "x": 1}

_CHGRP_REMEDY = N_("Run: sudo chgrp {group} {path} && sudo chmod g+{rights} {path}")
_RESTART_REMEDY = N_(
    "When no operation is in progress, run: sudo systemctl restart ncen-updater.service"
)
EXAMINE_SERVER = LazyText(N_("Have this server examined, and inform the Secretariat."))


@dataclass(frozen=True)
class FilePermissions:
    """How a file or directory lies there.

    Attributes:
        path: Where.
        owner: The number of its owner.
        mode: Kind and permissions, as ``stat`` has them.
        links: How many names it has.
    """

    path: Path
    owner: int
    mode: int
    links: int = 1

    def describe_problem(self, ours: frozenset[int]) -> LazyText | None:
        """Describe why somebody else may write what is read here; None if nobody may. Pure.

        Args:
            ours: The numbers of users who may: root's, and that of who runs the agent.
        """
        values: dict[str, object] = {"path": self.path}
        if not (stat.S_ISREG(self.mode) or stat.S_ISDIR(self.mode)):
            return LazyText(N_("{path} is not a regular file"), values)
        if stat.S_ISREG(self.mode) and self.links != 1:
            return LazyText(N_("{path} has a hard link"), values)
        if self.owner not in ours:
            return LazyText(N_("{path} belongs to user {owner}"), {**values, "owner": self.owner})
        if self.mode & 0o022:
            mode = f"{stat.S_IMODE(self.mode):04o}"
            return LazyText(
                N_("{path} is writable by other users (mode {mode})"), {**values, "mode": mode}
            )
        return None


def read_permissions(path: Path) -> FilePermissions | None:
    """Look at an entry itself; None where there is none."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return FilePermissions(path, found.st_uid, found.st_mode, found.st_nlink)


def list_trust_state_findings(
    file: FilePermissions | None,
    directory: FilePermissions,
    trusted_uids: frozenset[int],
    trust_state: TrustState | None,
    received_versions: Mapping[str, int],
    *,
    was_present: bool,
) -> Iterator[Finding]:
    """Say what is wrong with what is remembered. Pure.

    Args:
        file: The file; None where there is none.
        directory: The state directory.
        trusted_uids: Who may write them.
        trust_state: What is remembered; None where that could not be read.
        received_versions: Number of the list that the reader left, by product.
        was_present: Whether something was remembered here once.
    """
    if file is None:
        if was_present:
            yield make_finding(
                "NU-6130",
                Severity.WARNING,
                N_("Trust state {path} missing: older metadata would be accepted"),
                N_("Run: ncen-updater check"),
                path=directory.path / TRUST_STATE_NAME,
            )
        return
    for retained in (file, directory):
        if (reason := retained.describe_problem(trusted_uids)) is not None:
            yield Finding(
                "NU-6131",
                Severity.CRITICAL,
                LazyText(
                    N_("Trust state is writable by others: {reason}"),
                    {"reason": reason},
                ),
                EXAMINE_SERVER,
                {"path": str(retained.path), "reason": str(reason)},
            )
    for product, version in sorted(received_versions.items()) if trust_state else ():
        seen = trust_state.roles.get(product) if trust_state else None
        if seen is not None and version < seen.version:
            yield make_finding(
                "NU-6132",
                Severity.WARNING,
                N_("'{role}' metadata version {version} is older than verified version {known}"),
                N_(
                    "Run ncen-updater check; if it remains and no backup was restored,"
                    " have this server examined."
                ),
                role=product,
                version=version,
                known=seen.version,
            )


def check_trust_state(site: Site) -> Iterator[Finding]:
    """Look at what a site remembers.

    Raises:
        TrustError: If it is damaged (NU-2045).
    """
    paths = site.config.paths
    state = paths.resolve(paths.state)
    directory, file = read_permissions(state), read_permissions(state / TRUST_STATE_NAME)
    if directory is None:
        return
    left = {}
    for product in (site.config.site.product, AGENT_PRODUCT):
        view = load_view(get_view_path(paths.feed_state_directory, product))
        if view is not None:
            left[product] = view.version
    ours = frozenset({0, os.geteuid(), directory.owner if os.geteuid() else 0})
    once = read_permissions(state / TRUST_STATE_LOCK_NAME) is not None
    yield from list_trust_state_findings(file, directory, ours, None, left, was_present=once)
    if file is not None and stat.S_ISREG(file.mode):
        proved = TrustStateStore(state).load()
        found = list_trust_state_findings(file, directory, ours, proved, left, was_present=once)
        yield from (one for one in found if one.code == "NU-6132")


@dataclass(frozen=True)
class RequiredGroupAccess:
    """A place that is to be open to a group.

    Attributes:
        code: Of the finding where it is not.
        path: Where.
        group: The group that the configuration names for it.
        rights: What its members have to be able to do, as of ``chmod``.
        problem: What they cannot do where it is not open to them.
        remedy: What opens it.
    """

    code: str
    path: Path
    group: str
    rights: str
    problem: str
    remedy: str = _CHGRP_REMEDY


def is_accessible_to_group(
    mode: int, its_group: int, access_list: bytes | None, group: int, rights: str
) -> bool:
    """Tell whether the members of a group may use a file or a directory; pure, as acl(5) has it.

    Args:
        mode: Its mode; with an access list the bits of the group are the list's mask.
        its_group: The group that it belongs to.
        access_list: Its access list as the kernel keeps it; None where it has none.
        group: The number of the group that is asked for.
        rights: All of these have to be given by one entry.
    """
    wanted = sum(PERMISSION_BITS[right] for right in rights)
    entries = list(ACL_ENTRY.iter_unpack(access_list[ACL_HEADER_BYTES:])) if access_list else []
    mask = next((given for tag, given, _ in entries if tag == ACL_MASK), 7)
    found = [given & mask for tag, given, number in entries if tag == ACL_GROUP and number == group]
    if its_group == group:
        own = next((given for tag, given, _ in entries if tag == ACL_GROUP_OBJ), mode >> 3 & 7)
        found.append(own & mask)
    return any(given & wanted == wanted for given in found or [mode & 7])


def list_required_access(config: AgentConfig, config_path: Path) -> Iterator[RequiredGroupAccess]:
    """Yield what is to be open to which group; with the units of the package, all of it."""
    service = config.service
    if service.runner == "systemd":
        yield RequiredGroupAccess(
            "NU-6139", config_path, service.viewer_group, "r",
            N_("Viewers (viewer_group: {group}) cannot read {path} (group {found}, mode"
                " {mode})"),
        )  # fmt: skip
        yield RequiredGroupAccess(
            "NU-6140", config.paths.resolve(service.api_socket), service.viewer_group, "w",
            N_("Viewers (viewer_group: {group}) cannot connect to {path} (group {found}, mode"
                " {mode})"),
            _RESTART_REMEDY,
        )  # fmt: skip
    inbox = Inbox(config.paths.resolve(config.paths.state)).path
    yield RequiredGroupAccess(
        "NU-6141", inbox, service.operator_group, "rwx",
        N_("Operators (operator_group: {group}) cannot write to import directory {path}"
            " (group {found}, mode {mode})"),
    )  # fmt: skip


def check_group_access(
    config: AgentConfig, config_path: Path, number_of: Callable[[str], int | None] = find_group_id
) -> Iterator[Finding]:
    """Yield which group is not known here, and what of the site is not open to its group.

    Args:
        config: The configuration.
        config_path: Where it lies.
        number_of: Returns the number of a group; None where this machine has none of that name.
    """
    places = [place for place in list_required_access(config, config_path) if place.path.exists()]
    unknown = _list_unknown_groups(config, {place.group for place in places}, number_of)
    for setting, group in unknown:
        values = {"group": group, "setting": setting}
        yield make_finding(
            "NU-6138",
            Severity.WARNING,
            N_("Group {group} of service.{setting} not found on this machine"),
            N_(
                "Correct service.{setting} in agent.toml, or run: sudo groupadd"
                " --system {group} && sudo systemctl restart ncen-updater.service"
            ),
            **values,
        )
    for place in places:
        number = number_of(place.group)
        if number is not None:
            yield from _check_access(place, number)


def _list_unknown_groups(
    config: AgentConfig, used: Iterable[str], number_of: Callable[[str], int | None]
) -> Iterator[tuple[str, str]]:
    service = config.service
    for setting in ("viewer_group", "operator_group", "approver_group"):
        group = getattr(service, setting)
        if number_of(group) is None and (service.runner == "systemd" or group in used):
            yield setting, group


def _check_access(required: RequiredGroupAccess, number: int) -> Iterator[Finding]:
    with suppress(FileNotFoundError):
        info, access_list = required.path.stat(), None
        with suppress(OSError):  # it has none, or the disk keeps none
            access_list = os.getxattr(required.path, ACL_ATTRIBUTE)
        mode = stat.S_IMODE(info.st_mode)
        if is_accessible_to_group(mode, info.st_gid, access_list, number, required.rights):
            return
        values = {
            "group": required.group,
            "path": str(required.path),
            "found": _find_group_name(info.st_gid),
            "mode": f"{mode:04o}",
            "rights": required.rights,
        }
        what, remedy = LazyText(required.problem, values), LazyText(required.remedy, values)
        yield Finding(required.code, Severity.WARNING, what, remedy, values)


def _find_group_name(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return f"gid {number}"
