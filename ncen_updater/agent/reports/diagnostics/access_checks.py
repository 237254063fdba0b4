"""Check who can read and write the agent's files: groups and trust state. Reads only.

The trust state prevents revoked keys and withdrawn releases from being accepted again: a user who
can delete or write it can undo that.

The API checks membership in the configured group; files have the group that was configured when
they were created.
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

    def describe_problem(self, trusted_uids: frozenset[int]) -> LazyText | None:
        """Return why another user may write to the file; None if only trusted users may. Pure.

        Args:
            trusted_uids: UIDs that may own and write it.
        """
        values: dict[str, object] = {"path": self.path}
        if not (stat.S_ISREG(self.mode) or stat.S_ISDIR(self.mode)):
            return LazyText(N_("{path} is not a regular file"), values)
        if stat.S_ISREG(self.mode) and self.links != 1:
            return LazyText(N_("{path} has several hard links"), values)
        if self.owner not in trusted_uids:
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
        info = path.lstat()
    except FileNotFoundError:
        return None
    return FilePermissions(path, info.st_uid, info.st_mode, info.st_nlink)


def list_trust_state_findings(
    file: FilePermissions | None,
    directory: FilePermissions,
    trusted_uids: frozenset[int],
    *,
    was_present: bool,
) -> Iterator[Finding]:
    """Yield the findings on the permissions of the trust state. Pure.

    Args:
        file: The file; None if it is missing.
        directory: The state directory.
        trusted_uids: UIDs that may own and write them.
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
    for item in (file, directory):
        if (reason := item.describe_problem(trusted_uids)) is not None:
            yield make_finding(
                "NU-6131",
                Severity.CRITICAL,
                N_("Trust state is not protected: {reason}"),
                N_("Have this server examined, and inform the Secretariat."),
                path=item.path,
                reason=reason,
            )


def list_older_metadata(
    trust_state: TrustState, received_versions: Mapping[str, int]
) -> Iterator[Finding]:
    """Yield a finding for each product whose metadata is older than verified metadata. Pure.

    Args:
        trust_state: The trust state.
        received_versions: Metadata version that the feed reader stored, by product.
    """
    for product, version in sorted(received_versions.items()):
        seen = trust_state.roles.get(product)
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
    received = {}
    for product in (site.config.site.product, AGENT_PRODUCT):
        view = load_view(get_view_path(paths.feed_state_directory, product))
        if view is not None:
            received[product] = view.version
    # A viewer who runs this check does not know the agent's user: take the directory's owner.
    trusted = frozenset({0, os.geteuid(), directory.owner if os.geteuid() else 0})
    was_present = read_permissions(state / TRUST_STATE_LOCK_NAME) is not None
    yield from list_trust_state_findings(file, directory, trusted, was_present=was_present)
    if file is not None and stat.S_ISREG(file.mode):
        yield from list_older_metadata(TrustStateStore(state).load(), received)


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
    mode: int, owning_gid: int, acl: bytes | None, gid: int, rights: str
) -> bool:
    """Return whether a group has permissions on a file or directory, as in acl(5). Pure.

    Args:
        mode: Its mode; with an ACL the group bits are the ACL's mask.
        owning_gid: Its GID.
        acl: The ACL in the kernel's format; None without one.
        gid: The GID to check.
        rights: Required permissions; one entry must grant all of them.
    """
    needed = sum(PERMISSION_BITS[right] for right in rights)
    entries = list(ACL_ENTRY.iter_unpack(acl[ACL_HEADER_BYTES:])) if acl else []
    mask = next((granted for tag, granted, _ in entries if tag == ACL_MASK), 7)
    grants = [
        granted & mask for tag, granted, number in entries if tag == ACL_GROUP and number == gid
    ]
    if owning_gid == gid:
        own = next((granted for tag, granted, _ in entries if tag == ACL_GROUP_OBJ), mode >> 3 & 7)
        grants.append(own & mask)
    return any(granted & needed == needed for granted in grants or [mode & 7])


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
    config: AgentConfig, config_path: Path, find_gid: Callable[[str], int | None] = find_group_id
) -> Iterator[Finding]:
    """Yield findings on groups that do not exist and on missing access of groups.

    Args:
        config: The configuration.
        config_path: Its file.
        find_gid: Returns the GID of a group; None if it does not exist.
    """
    required = [one for one in list_required_access(config, config_path) if one.path.exists()]
    unknown = _list_unknown_groups(config, {one.group for one in required}, find_gid)
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
    for access in required:
        gid = find_gid(access.group)
        if gid is not None:
            yield from _check_access(access, gid)


def _list_unknown_groups(
    config: AgentConfig, used: Iterable[str], find_gid: Callable[[str], int | None]
) -> Iterator[tuple[str, str]]:
    service = config.service
    for setting in ("viewer_group", "operator_group", "approver_group"):
        group = getattr(service, setting)
        if find_gid(group) is None and (service.runner == "systemd" or group in used):
            yield setting, group


def _check_access(required: RequiredGroupAccess, gid: int) -> Iterator[Finding]:
    with suppress(FileNotFoundError):
        info, acl = required.path.stat(), None
        with suppress(OSError):  # no ACL, or a file system without ACLs
            acl = os.getxattr(required.path, ACL_ATTRIBUTE)
        mode = stat.S_IMODE(info.st_mode)
        if is_accessible_to_group(mode, info.st_gid, acl, gid, required.rights):
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
