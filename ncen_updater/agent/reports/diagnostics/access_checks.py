"""Check who can read and write the agent's files: groups and trust state. Reads only.

``trust-state.json`` prevents revoked keys and withdrawn releases from being accepted again: a user
who can delete or write it can undo that.

The API checks membership in the configured group; files got their group when they were created,
which may be another group.
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

#: Extended attribute of a POSIX ACL, acl(5): size of its header, one entry, and entry tags.
ACL_ATTRIBUTE = "system.posix_acl_access"
ACL_HEADER_BYTES, ACL_ENTRY = 4, struct.Struct("<HHI")
ACL_GROUP_OBJ, ACL_GROUP, ACL_MASK = 0x04, 0x08, 0x10
PERMISSION_BITS = {"r": 4, "w": 2, "x": 1}

_CHGRP_REMEDY = N_("Run: sudo chgrp {group} {path} && sudo chmod g+{rights} {path}")
_RESTART_REMEDY = N_(
    "When no operation is in progress, run: sudo systemctl restart ncen-updater.service"
)


@dataclass(frozen=True)
class FilePermissions:
    """Permissions of a file or directory.

    Attributes:
        path: Its path.
        owner: UID of its owner.
        mode: File type and permissions, as in ``st_mode``.
        links: Number of hard links.
    """

    path: Path
    owner: int
    mode: int
    links: int = 1

    def describe_problem(self, ours: frozenset[int]) -> LazyText | None:
        """Return why another user may write to the file; None if only trusted users may. Pure.

        Args:
            ours: Trusted UIDs: root and the user who runs the agent.
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
    """Read the permissions of a file without following links; None if it does not exist."""
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
    """Yield the findings on the trust state. Pure.

    Args:
        file: The file; None if it is missing.
        directory: The state directory.
        trusted_uids: UIDs that may write to them.
        trust_state: The trust state; None if it is not read.
        received_versions: Metadata version that the feed reader stored, by product.
        was_present: Whether the trust state existed before.
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
            yield make_finding(
                "NU-6131",
                Severity.CRITICAL,
                N_("Trust state is writable by others: {reason}"),
                N_("Have this server examined, and inform the Secretariat."),
                path=retained.path,
                reason=reason,
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
    """Check the trust state of a site.

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
    """Access that a group needs.

    Attributes:
        code: Code of the finding if the access is missing.
        path: The file or directory.
        group: The configured group.
        rights: Required permissions, in the notation of ``chmod``.
        problem: Text of the finding.
        remedy: Remedy of the finding.
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
    """Return whether a group has permissions on a file or directory, as in acl(5). Pure.

    Args:
        mode: Its mode; with an ACL the group bits are the ACL's mask.
        its_group: Its GID.
        access_list: The ACL in the kernel's format; None without one.
        group: The GID to check.
        rights: Required permissions; one entry must grant all of them.
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
    """Yield the access that groups need; viewers' access only with the packaged units."""
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
    """Yield findings on groups that do not exist and on missing access of groups.

    Args:
        config: The configuration.
        config_path: Its file.
        number_of: Returns the GID of a group; None if it does not exist.
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
        with suppress(OSError):  # no ACL, or a file system without ACLs
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
        problem, remedy = required.problem, required.remedy
        yield make_finding(required.code, Severity.WARNING, problem, remedy, **values)


def _find_group_name(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return f"gid {number}"
