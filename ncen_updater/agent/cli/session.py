"""State of one run of ``ncen-updater``: the site, and its status before the command changed it."""

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
from ncen_updater.common.disk_space import is_read_only_here
from ncen_updater.common.errors import UpdaterError, causes
from ncen_updater.common.messages import (
    BUNDLE_UNREADABLE,
    BUNDLE_UNWRITABLE,
    CONFIG_GROUP_MISMATCH,
    DOSSIER_UNWRITTEN,
    INBOX_UNUSABLE,
    LOG_IN_AGAIN,
    MEMBER_NEEDS_ROOT,
    NOT_A_MEMBER,
    OUTSIDE_UNIT,
    ExitCode,
    find_message,
)
from ncen_updater.common.progress import CALLER_PROGRESS

if TYPE_CHECKING:
    from ncen_updater.agent.cli.local_client import LocalSiteClient
    from ncen_updater.agent.cli.local_records import LocalRecords
    from ncen_updater.agent.cli.service_client import ServiceSiteClient
    from ncen_updater.agent.engine.site import Site
    from ncen_updater.agent.reports.command_results import CommandResult
    from ncen_updater.agent.reports.status import SiteStatus

    #: A site without or with its service: both have the same methods, documents and errors.
    SiteClient: TypeAlias = LocalSiteClient | ServiceSiteClient


#: Word in English remedies that refer the user to the Secretariat.
SECRETARIAT = "Secretariat"
#: Parts of the status that show afterwards whether the command changed the site.
BASELINE_PARTS = frozenset({"current", "journal"})


@dataclass
class AgentSession(CliSession):
    """A run of ``ncen-updater``.

    Attributes:
        wraps_lines: Whether output lines are wrapped.
        site: The site, once a command has opened it.
        baseline: Status of the site before the command changed it.
        adopting: Whether the command changes a site that has no journal yet.
    """

    wraps_lines: bool = True
    site: Site | None = None
    baseline: SiteStatus | None = None
    adopting: bool = False

    def get_contact(self, error: UpdaterError) -> str | None:
        """Return ``site.contact`` if the error refers to the Secretariat or needs intervention.

        Read from the file without validation, since the error may concern the file. The remedy is
        looked up by the code: the service sends it in the language of the user.
        """
        message = find_message(error.code)
        remedy = message.remedy if message is not None else ""
        if error.exit_code is not ExitCode.INTERVENTION_NEEDED and SECRETARIAT not in remedy:
            return None
        contact = self._read_raw_table("site").get("contact")
        return contact if isinstance(contact, str) else None

    def _read_raw_table(self, name: str) -> Mapping[str, object]:
        """Return a table of the configuration file without validation; empty if unreadable."""
        from ncen_updater.agent.config.raw_config import read_raw_config

        try:
            table = read_raw_config(self.config).data.get(name)
        except UpdaterError:
            return {}
        return table if isinstance(table, dict) else {}

    def find_start_command(self) -> str | None:
        """Return the command that starts the application; None if unknown."""
        from ncen_updater.agent.config.raw_config import format_start_command

        settings = self._read_raw_table("application")
        return format_start_command(*map(settings.get, ("unit", "start", "environment")))

    def when(self, text: str) -> str:
        """Return a stored time in the site's time zone."""
        return format_time(datetime.fromisoformat(text), self.zone)

    @cached_property
    def zone(self) -> tzinfo | None:
        """Return the time zone of the site; None for that of the machine.

        Errors in the configuration are reported elsewhere.
        """
        from ncen_updater.agent.config.essential_settings import read_site_timezone

        try:
            return read_site_timezone(self.config)
        except UpdaterError:
            return None

    def mask_secrets(self) -> None:
        """Remove secrets of the configuration from the log."""
        if self.secret_filter is not None:
            from ncen_updater.agent.config.raw_config import find_secrets, read_raw_config

            self.secret_filter.add_secrets(find_secrets(read_raw_config(self.config).data))

    def open_site(self, *, recovering: bool = False) -> Site:
        """Load and validate the configuration and open the site.

        Args:
            recovering: Whether to complete a change: the last valid configuration replaces one that
                became invalid, see :func:`.validation_cache.choose_usable_config`.

        Raises:
            ConfigError: If the configuration is invalid.
        """
        from ncen_updater.agent.config.loader import load_config
        from ncen_updater.agent.config.validation_cache import (
            choose_usable_config,
            load_and_store_config,
        )
        from ncen_updater.agent.engine.site_factory import build_site

        if recovering:
            self.config = choose_usable_config(self.config)
            config = load_config(self.config, check_disk=False)
        else:
            config = load_and_store_config(self.config)
        self.mask_secrets()
        self.baseline = self.read_status(BASELINE_PARTS)
        self.site = build_site(config, self.config)
        return self.site

    def read_status(self, parts: Collection[str] | None = None) -> SiteStatus:
        """Read the current status of the site; with the databases if a command has opened the site.

        Args:
            parts: Requested parts; by default those that error messages describe.

        Raises:
            ConfigError: If the configuration is invalid.
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

        Also explains missing permissions and unknown host names.
        """
        from ncen_updater.agent.config import errors as config_errors

        return (
            super().clarify_error(error)
            or explain_access_error(error, self.config)
            or config_errors.explain_unknown_name(error, self.config)
        )

    def get_client(self) -> SiteClient:
        """Return the client of the site: its service if it is running, otherwise this process.

        With ``--local`` this process always acts itself, as in commands that the service starts.
        """
        from ncen_updater.agent.cli.service_client import ServiceSiteClient, find_service

        service = find_service(self)
        return self.get_local_site() if service is None else ServiceSiteClient(self, service)

    def get_record_reader(self) -> LocalRecords | ServiceSiteClient:
        """Return the same for ``status`` and ``history``, which need only the records."""
        from ncen_updater.agent.cli.service_client import ServiceSiteClient, find_service

        if (service := find_service(self)) is not None:
            return ServiceSiteClient(self, service)
        from ncen_updater.agent.cli.local_records import LocalRecords

        return LocalRecords(self)

    def get_nearest_client(self) -> SiteClient:
        """Return this process if it may write to the site, otherwise as :meth:`get_client`.

        Diagnostic commands do not rely on a service that may itself be the problem.
        """
        from ncen_updater.agent.config.essential_settings import load_essential_settings
        from ncen_updater.agent.model.event_names import JOURNAL_FILE

        if os.geteuid() == 0:
            return self.get_local_site()
        try:
            journal = load_essential_settings(self.config).state / JOURNAL_FILE
        except UpdaterError:
            return self.get_local_site()  # reports the error of the configuration
        return self.get_local_site() if os.access(journal, os.R_OK | os.W_OK) else self.get_client()

    def get_local_site(self) -> LocalSiteClient:
        """Return the site in this process, for operations that the service's API does not offer.

        These are the dry runs of ``rehearse`` and ``self-update``, and commands with the hidden
        options that the service passes. ``adopt``, ``mirror``, ``prune`` and ``resume`` use neither
        client.
        """
        from ncen_updater.agent.cli.local_client import LocalSiteClient

        return LocalSiteClient(self)

    @property
    def runs_for_service(self) -> bool:
        """Return whether this process does a job of the service, whose requester is told more."""
        return bool(CALLER_PROGRESS)

    def show_result(self, answer: CommandResult) -> ExitCode:
        """Output a result and return the exit status.

        Raises:
            UpdaterError: If the result contains an error.
        """
        for line in answer.lines:
            self.add_line(line)
        if answer.error is not None:
            raise answer.error
        self.write_output(answer.document)
        return answer.exit_code


#: Errors on files named by the user, which explain the problem themselves.
_SELF_EXPLANATORY = (BUNDLE_UNREADABLE, BUNDLE_UNWRITABLE, DOSSIER_UNWRITTEN, INBOX_UNUSABLE)
_PERMISSION_DENIED = re.compile(r"\[Errno 13\] [^:']*: '([^']+)'")


def find_denied_path(error: BaseException) -> str | None:
    """Return the path of the site that the user may not access, if that caused the error."""
    if isinstance(error, UpdaterError) and error.message in _SELF_EXPLANATORY:
        return None
    for cause in causes(error):
        if isinstance(cause, PermissionError):
            return str(cause.filename or "-")
        if isinstance(cause, JournalPermissionError):
            return str(cause.values.get("path", "-"))
        reported = _PERMISSION_DENIED.fullmatch(getattr(cause, "detail", None) or "")
        if reported is not None:  # reported by a worker process
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
    """Return the error for a user who may not read a file of the site. Pure.

    Args:
        path: The file.
        user: Name of the user.
        group: The viewer group.
        current_groups: Groups of this process.
        group_members: Members of the group according to the system.
        config: Path of the configuration.
    """
    message = NOT_A_MEMBER
    if group in current_groups:
        message = CONFIG_GROUP_MISMATCH if path == config else MEMBER_NEEDS_ROOT
    elif user in group_members:
        message = LOG_IN_AGAIN
    return UpdaterError(message, state=NOTHING_CHANGED, user=user, group=group, path=path)


def explain_access_error(error: BaseException, config: Path) -> UpdaterError | None:
    """Return an error that explains missing permissions; None for errors with other causes."""
    cause = error.__cause__ or error
    if isinstance(cause, OSError) and cause.errno == errno.EROFS and cause.filename:
        denied = Path(os.fsdecode(cause.filename))
        # read-only for this unit only; otherwise the file system is read-only
        if is_read_only_here(denied):
            return UpdaterError(OUTSIDE_UNIT, path=denied)
    path = find_denied_path(error)
    if path is None or os.geteuid() == 0:
        return None
    import grp
    import pwd

    group = _read_viewer_group(config)
    own_gids = {os.getegid(), *os.getgroups()}
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = str(os.geteuid())
    try:
        entry = grp.getgrnam(group)
    except KeyError:
        return build_access_error(path, user, group, current_groups=(), group_members=())
    own_groups = (group,) if entry.gr_gid in own_gids else ()
    return build_access_error(
        path, user, group, current_groups=own_groups, group_members=entry.gr_mem, config=str(config)
    )


def _read_viewer_group(config: Path) -> str:
    """Return the configured viewer group; the default if the configuration is unreadable."""
    from ncen_updater.agent.config.essential_settings import read_viewer_group

    try:
        return read_viewer_group(config)
    except UpdaterError:
        return read_viewer_group(None)
