"""Permission errors of users who may not read the site, with their remedy, for every command."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Collection
from pathlib import Path

from ncen_updater.agent.model.errors import JournalPermissionError
from ncen_updater.common.cli.usage import NOTHING_CHANGED
from ncen_updater.common.disk_space import is_closed_here
from ncen_updater.common.errors import UpdaterError, causes
from ncen_updater.common.messages import (
    BUNDLE_UNREADABLE,
    CONFIG_GROUP_MISMATCH,
    INBOX_UNUSABLE,
    LOG_IN_AGAIN,
    MEMBER_NEEDS_ROOT,
    NOT_A_MEMBER,
    OUTSIDE_UNIT,
)

#: Of what a person named, or is lent: each says itself what to do.
_SELF_EXPLANATORY = (BUNDLE_UNREADABLE, INBOX_UNUSABLE)
_PERMISSION_DENIED = re.compile(r"\[Errno 13\] [^:']*: '([^']+)'")


def find_denied_path(error: BaseException) -> str | None:
    """Return what of the site a user may not enter or read, if that is behind an error."""
    if isinstance(error, UpdaterError) and error.message in _SELF_EXPLANATORY:
        return None
    for here in causes(error):
        if isinstance(here, PermissionError):
            return str(here.filename or "-")
        if isinstance(here, JournalPermissionError):
            return str(here.values.get("path", "-"))
        reported = _PERMISSION_DENIED.fullmatch(getattr(here, "detail", None) or "")
        if reported is not None:  # by a process of ours that met it
            return reported[1]
    return None


def build_access_error(
    path: str,
    user: str,
    group: str,
    *,
    current_groups: Collection[str],
    group_members: Collection[str],
    config: str = "",
) -> UpdaterError:
    """Return the message to a user who may not read something of the site; pure.

    Args:
        path: What they may not read.
        user: Who.
        group: Whose members may look.
        current_groups: The groups that this process has.
        group_members: The members of the group, as the machine has them.
        config: The configuration, which is theirs to read.
    """
    message = NOT_A_MEMBER
    if group in current_groups:
        message = CONFIG_GROUP_MISMATCH if path == config else MEMBER_NEEDS_ROOT
    elif user in group_members:
        message = LOG_IN_AGAIN
    return UpdaterError(message, state=NOTHING_CHANGED, user=user, group=group, path=path)


def explain_access_error(error: BaseException, config: Path) -> UpdaterError | None:
    """Return what is to be told in place of an error that comes of this process's rights."""
    cause = error.__cause__ or error
    if isinstance(cause, OSError) and cause.errno == errno.EROFS and cause.filename:
        place = Path(os.fsdecode(cause.filename))
        if is_closed_here(place):  # to this unit; what is so for everybody is the disk's
            return UpdaterError(OUTSIDE_UNIT, path=place)
    path = find_denied_path(error)
    if path is None or os.geteuid() == 0:
        return None
    import grp
    import pwd

    group = _read_viewer_group(config)
    numbers = {os.getegid(), *os.getgroups()}
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = str(os.geteuid())
    try:
        entry = grp.getgrnam(group)
    except KeyError:
        return build_access_error(path, user, group, current_groups=(), group_members=())
    now = (group,) if entry.gr_gid in numbers else ()
    return build_access_error(
        path, user, group, current_groups=now, group_members=entry.gr_mem, config=str(config)
    )


def _read_viewer_group(config: Path) -> str:
    """Return the configured viewer group, or the default where that cannot be read."""
    from ncen_updater.agent.config.essential_settings import read_viewer_group

    try:
        return read_viewer_group(config)
    except UpdaterError:
        return read_viewer_group(None)
