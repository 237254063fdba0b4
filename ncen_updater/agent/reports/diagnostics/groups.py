"""Whether the groups that the configuration names have what is theirs, in one place. Reads only.

A right of the local interface is asked of the system's lists by name; what lies on the disk is
opened to one group when it is made, and that may be another one.
"""

from __future__ import annotations

import grp
import os
import stat
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ncen_updater.agent.adapters.system_groups import group_id
from ncen_updater.agent.config.model import AgentConfig
from ncen_updater.agent.storage.inbox import Tray
from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import N_, Text

#: An access list as the kernel keeps it, acl(5): its head, an entry, and tags of entries.
LIST = "system.posix_acl_access"
HEAD, ENTRY = 4, struct.Struct("<HHI")
OF_ITS_GROUP, OF_A_GROUP, MASK = 0x04, 0x08, 0x10
BITS = {"r": 4, "w": 2, "x": 1}

_CHANGED = N_(
    "Type 'sudo chgrp {group} {path} && sudo chmod g+{rights} {path}'. It counts at once, and stays"
    " at the next start of the machine."
)
_MADE_ANEW = N_(
    "Type 'sudo systemctl restart ncen-updater.service' while nothing is at work: it opens it to"
    " the group of the configuration when it starts."
)


@dataclass(frozen=True)
class GroupPlace:
    """A place that is to be open to a group.

    Attributes:
        code: Of the finding where it is not.
        path: Where.
        group: The group that the configuration names for it.
        rights: What its members have to be able to do, as of ``chmod``.
        what: What they cannot do where it is not open to them.
        remedy: What opens it.
    """

    code: str
    path: Path
    group: str
    rights: str
    what: str
    remedy: str = _CHANGED


def may_use(mode: int, its_group: int, access_list: bytes | None, group: int, rights: str) -> bool:
    """Whether the members of a group may use a file or a directory; pure, as acl(5) has it.

    Args:
        mode: Its mode; with an access list the bits of the group are the list's mask.
        its_group: The group that it belongs to.
        access_list: Its access list as the kernel keeps it; None where it has none.
        group: The number of the group that is asked for.
        rights: All of these have to be given by one entry.
    """
    wanted = sum(BITS[right] for right in rights)
    entries = list(ENTRY.iter_unpack(access_list[HEAD:])) if access_list else []
    mask = next((given for tag, given, _ in entries if tag == MASK), 7)
    found = [
        given & mask for tag, given, number in entries if tag == OF_A_GROUP and number == group
    ]
    if its_group == group:
        own = next((given for tag, given, _ in entries if tag == OF_ITS_GROUP), mode >> 3 & 7)
        found.append(own & mask)
    return any(given & wanted == wanted for given in found or [mode & 7])


def places_of_groups(config: AgentConfig, config_path: Path) -> Iterator[GroupPlace]:
    """Yield what is to be open to which group; with the units of the package, all of it."""
    service = config.service
    if service.runner == "systemd":
        yield GroupPlace(
            "NU-6139", config_path, service.read_group, "r",
            N_("Whoever may look (read_group: {group}) cannot read {path}, and runs no command:"
               " its group is {found}, its mode {mode}."),
        )  # fmt: skip
        yield GroupPlace(
            "NU-6140", config.paths.resolve(service.socket), service.read_group, "w",
            N_("Whoever may look (read_group: {group}) does not reach the service at {path}: its"
               " group is {found}, its mode {mode}."),
            _MADE_ANEW,
        )  # fmt: skip
    tray = Tray(config.paths.resolve(config.paths.state)).path
    yield GroupPlace(
        "NU-6141", tray, service.operate_group, "rwx",
        N_("Whoever may order (operate_group: {group}) cannot lay bundles into the tray {path}:"
           " its group is {found}, its mode {mode}."),
    )  # fmt: skip


def group_findings(
    config: AgentConfig, config_path: Path, number_of: Callable[[str], int | None] = group_id
) -> Iterator[Finding]:
    """Yield which group is not known here, and what of the site is not open to its group.

    Args:
        config: The configuration.
        config_path: Where it lies.
        number_of: Returns the number of a group; None where this machine has none of that name.
    """
    places = [place for place in places_of_groups(config, config_path) if place.path.exists()]
    unknown = _unknown(config, {place.group for place in places}, number_of)
    for setting, group in unknown:
        values = {"group": group, "setting": setting}
        yield Finding(
            "NU-6138",
            Severity.ADVISORY,
            Text(
                N_(
                    "This machine has no group {group}, which service.{setting} names: nobody but"
                    " root has that right."
                ),
                values,
            ),
            Text(
                N_(
                    "Correct the name in agent.toml. Or make the group, and let people in: 'sudo"
                    " groupadd --system {group} && sudo usermod -aG {group} NAME', then 'sudo"
                    " systemctl restart ncen-updater.service'."
                ),
                values,
            ),
            values,
        )
    for place in places:
        number = number_of(place.group)
        if number is not None:
            yield from _closed(place, number)


def _unknown(
    config: AgentConfig, used: Iterable[str], number_of: Callable[[str], int | None]
) -> Iterator[tuple[str, str]]:
    service = config.service
    for setting in ("read_group", "operate_group", "approve_group"):
        group = getattr(service, setting)
        if number_of(group) is None and (service.runner == "systemd" or group in used):
            yield setting, group


def _closed(place: GroupPlace, number: int) -> Iterator[Finding]:
    with suppress(FileNotFoundError):
        info, access_list = place.path.stat(), None
        with suppress(OSError):  # it has none, or the disk keeps none
            access_list = os.getxattr(place.path, LIST)
        mode = stat.S_IMODE(info.st_mode)
        if may_use(mode, info.st_gid, access_list, number, place.rights):
            return
        values = {
            "group": place.group, "path": str(place.path), "found": _name(info.st_gid),
            "mode": f"{mode:04o}", "rights": place.rights,
        }  # fmt: skip
        what, remedy = Text(place.what, values), Text(place.remedy, values)
        yield Finding(place.code, Severity.ADVISORY, what, remedy, values)


def _name(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return f"gid {number}"
