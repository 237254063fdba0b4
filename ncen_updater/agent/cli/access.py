"""Who may not look at a site, and what would let them: said in one place for every command."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Collection
from pathlib import Path

from ncen_updater.agent.model.errors import JournalForbidden
from ncen_updater.common.cli.errors import NOTHING_CHANGED
from ncen_updater.common.disk_space import is_closed_here
from ncen_updater.common.errors import UpdaterError, causes
from ncen_updater.common.messages import (
    BUNDLE_UNREADABLE,
    CONFIG_OF_NO_GROUP,
    LOG_IN_AGAIN,
    MEMBER_NEEDS_ROOT,
    NOT_A_MEMBER,
    OUTSIDE_UNIT,
    TRAY_UNUSABLE,
)

#: Of what a person named, or is lent: each says itself what to do.
_THEIRS = (BUNDLE_UNREADABLE, TRAY_UNUSABLE)
_TOLD = re.compile(r"\[Errno 13\] [^:']*: '([^']+)'")


def denied(error: BaseException) -> str | None:
    """Return what of the site a user may not enter or read, if that is behind an error."""
    if isinstance(error, UpdaterError) and error.message in _THEIRS:
        return None
    for here in causes(error):
        if isinstance(here, PermissionError):
            return str(here.filename or "-")
        if isinstance(here, JournalForbidden):
            return str(here.values.get("path", "-"))
        told = _TOLD.fullmatch(getattr(here, "detail", None) or "")
        if told is not None:  # by a process of ours that met it
            return told[1]
    return None


def refusal_for(
    path: str,
    user: str,
    group: str,
    *,
    now: Collection[str],
    listed: Collection[str],
    config: str = "",
) -> UpdaterError:
    """Return what is told to whoever may not read something of the site; pure.

    Args:
        path: What they may not read.
        user: Who.
        group: Whose members may look.
        now: The groups that this process has.
        listed: The members of the group, as the machine has them.
        config: The configuration, which is theirs to read.
    """
    message = NOT_A_MEMBER
    if group in now:
        message = CONFIG_OF_NO_GROUP if path == config else MEMBER_NEEDS_ROOT
    elif user in listed:
        message = LOG_IN_AGAIN
    return UpdaterError(message, state=NOTHING_CHANGED, user=user, group=group, path=path)


def explained(error: BaseException, config: Path) -> UpdaterError | None:
    """Return what is to be told in place of an error that comes of this process's rights."""
    cause = error.__cause__ or error
    if isinstance(cause, OSError) and cause.errno == errno.EROFS and cause.filename:
        place = Path(os.fsdecode(cause.filename))
        if is_closed_here(place):  # to this unit; what is so for everybody is the disk's
            return UpdaterError(OUTSIDE_UNIT, path=place)
    path = denied(error)
    if path is None or os.geteuid() == 0:
        return None
    import grp
    import pwd

    group = _group(config)
    numbers = {os.getegid(), *os.getgroups()}
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = str(os.geteuid())
    try:
        entry = grp.getgrnam(group)
    except KeyError:
        return refusal_for(path, user, group, now=(), listed=())
    now = (group,) if entry.gr_gid in numbers else ()
    return refusal_for(path, user, group, now=now, listed=entry.gr_mem, config=str(config))


def _group(config: Path) -> str:
    """The group of the configuration; the one of the package where that cannot be read."""
    from ncen_updater.agent.config.paths import read_group

    try:
        return read_group(config)
    except UpdaterError:
        return read_group(None)
