"""State of one run of ``ncen-updater``: the site, and its status before the command touched it."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from ncen_updater.agent.model.errors import JournalPermissionError
from ncen_updater.common.cli.render import format_time
from ncen_updater.common.cli.session import CliSession
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
    ExitCode,
)

if TYPE_CHECKING:
    from ncen_updater.agent.cli.local_client import LocalSiteClient
    from ncen_updater.agent.cli.service_client import ServiceSiteClient
    from ncen_updater.agent.engine.site import Site
    from ncen_updater.agent.reports.command_results import CommandResult
    from ncen_updater.agent.reports.status import SiteStatus

    #: A site without its service, or through it: the same methods, documents and errors.
    SiteClient: TypeAlias = LocalSiteClient | ServiceSiteClient


#: Stands in the English remedy of an error where it is to ask the Secretariat.
SECRETARIAT = "Secretariat"
#: What has to be known of a site before a command touches it: whether it changed anything.
BASELINE_PARTS = frozenset({"current", "journal"})


@dataclass
class AgentSession(CliSession):
    """A run of ``ncen-updater``.

    Attributes:
        site: The site, once a command needed it.
        baseline: What was known of it before the command touched it.
        adopting: Whether the command changes what no journal knows of yet.
        installing: Whether it changes the files of ncen-updater alone.
    """

    wraps_lines: bool = True
    site: Site | None = None
    baseline: SiteStatus | None = None
    adopting: bool = False
    installing: bool = False

    def get_contact(self, error: UpdaterError) -> str | None:
        """``site.contact``, where the remedy is to ask the Secretariat or a person is needed.

        Taken as it stands in the file, which may be what the error is about.
        """
        if (
            error.exit_code is not ExitCode.INTERVENTION_NEEDED
            and SECRETARIAT not in error.message.remedy
        ):
            return None
        contact = self._read_raw_table("site").get("contact")
        return contact if isinstance(contact, str) else None

    def _read_raw_table(self, name: str) -> Mapping[str, object]:
        """Return a table as it stands in the file; empty where that cannot be read."""
        from ncen_updater.agent.config.raw_config import read_raw_config

        try:
            table = read_raw_config(self.config).data.get(name)
        except UpdaterError:
            return {}
        return table if isinstance(table, dict) else {}

    def find_start_command(self) -> str | None:
        """Return the command that starts the application; None where it is not known."""
        from ncen_updater.agent.config.raw_config import format_start_command

        settings = self._read_raw_table("application")
        return format_start_command(*map(settings.get, ("unit", "start", "environment")))

    def when(self, text: str) -> str:
        """Return a stored time as people of the site read it."""
        return format_time(datetime.fromisoformat(text), self.zone)

    @cached_property
    def zone(self) -> tzinfo | None:
        """Return the zone in which people of the site speak of hours; None for the machine's own.

        What is wrong with the configuration is said elsewhere.
        """
        from ncen_updater.agent.config.essential_settings import read_site_timezone

        try:
            return read_site_timezone(self.config)
        except UpdaterError:
            return None

    def mask_secrets(self) -> None:
        """Keep what the configuration has of passwords out of the log."""
        if self.secret_filter is not None:
            from ncen_updater.agent.config.raw_config import find_secrets, read_raw_config

            self.secret_filter.add_secrets(find_secrets(read_raw_config(self.config).data))

    def open_site(self, *, recovering: bool = False) -> Site:
        """Read the whole configuration and put the site together.

        Args:
            recovering: To bring a change to its end: what is wrong with the configuration by now
                is in nobody's way then, see :func:`.noted_check.usable_config`.

        Raises:
            ConfigError: If the configuration has mistakes.
        """
        from ncen_updater.agent.config.loader import load_config
        from ncen_updater.agent.config.validation_cache import load_noted, usable_config
        from ncen_updater.agent.engine.site_factory import build_site

        if recovering:
            self.config = usable_config(self.config)
            config = load_config(self.config, look=False)
        else:
            config = load_noted(self.config)
        self.mask_secrets()
        self.baseline = self.read_status(BASELINE_PARTS)
        self.site = build_site(config, self.config)
        return self.site

    def read_status(self, parts: Collection[str] | None = None) -> SiteStatus:
        """Look at the site as it is now; at its databases once a command had it.

        Args:
            parts: What is wanted; by default what an error says of the state now.

        Raises:
            ConfigError: If the configuration cannot be used.
        """
        from ncen_updater.agent.cli.state_text import SITE_STATE_PARTS
        from ncen_updater.agent.config.essential_settings import load_essential_settings
        from ncen_updater.agent.reports.status import read_status

        wanted = SITE_STATE_PARTS if parts is None else parts
        return read_status(
            load_essential_settings(self.config), datetime.now(UTC), wanted, site=self.site
        )

    def clarify_error(self, error: Exception) -> UpdaterError | None:
        """See :meth:`CliSession.clarify_error`.

        Also this user's rights, and names that nobody knows.
        """
        from ncen_updater.agent.config import errors as config_errors

        return (
            super().clarify_error(error)
            or explain_access_error(error, self.config)
            or config_errors.explain_unknown_name(error, self.config)
        )

    def get_client(self) -> SiteClient:
        """Return who answers for the site: its service where one runs, else this process.

        A command asks alone where it is told to (``--local``, as the service tells what it starts).
        """
        from ncen_updater.agent.cli.service_client import ServiceSiteClient, find_service

        service = find_service(self)
        return self.get_local_site() if service is None else ServiceSiteClient(self, service)

    def get_nearest_client(self) -> SiteClient:
        """Return this process where it may work on the site, else who answers for it.

        What looks for mistakes does not rely on a service that may be one of them.
        """
        from ncen_updater.agent.config.essential_settings import load_essential_settings
        from ncen_updater.agent.model.event_names import JOURNAL_FILE

        if os.geteuid() == 0:
            return self.get_local_site()
        try:
            journal = load_essential_settings(self.config).state / JOURNAL_FILE
        except UpdaterError:
            return self.get_local_site()  # which says what is wrong
        return self.get_local_site() if os.access(journal, os.R_OK | os.W_OK) else self.get_client()

    def get_local_site(self) -> LocalSiteClient:
        """Return the site itself, for what its service has no way to be asked.

        That is the dry runs of ``rehearse`` and ``self-update``, and what only
        the service says of an upgrade that it begins. These know no service at all: ``adopt``,
        ``install``, ``uninstall``, ``mirror``, ``prune``,
        ``resume``.
        """
        from ncen_updater.agent.cli.local_client import LocalSiteClient

        return LocalSiteClient(self)

    def show_result(self, answer: CommandResult) -> ExitCode:
        """Show what a piece of work came to, and return the exit code.

        Raises:
            UpdaterError: The error that it ended with, if it did.
        """
        for line in answer.lines:
            self.add_line(line)
        if answer.error is not None:
            raise answer.error
        self.write_output(answer.document)
        return answer.exit_code


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
