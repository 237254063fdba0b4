"""State of one run of ``ncen-updater``: the site, and its status before the command touched it."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

from ncen_updater.common.cli.render import format_time
from ncen_updater.common.cli.session import CliSession
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import ExitCode

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
        from ncen_updater.agent.config.start_command import format_start_command

        settings = self._read_raw_table("application")
        return format_start_command(*map(settings.get, ("unit", "start", "environment")))

    def when(self, text: str) -> str:
        """Return a stored time as people of the site read it."""
        return format_time(datetime.fromisoformat(text), self.zone)

    @cached_property
    def zone(self) -> tzinfo | None:
        """The zone in which people of the site speak of hours; None for the machine's own.

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
            from ncen_updater.agent.config.raw_config import read_raw_config
            from ncen_updater.agent.config.secrets import find_secrets

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
        from ncen_updater.agent.cli import access
        from ncen_updater.agent.reports.diagnostics import unknown_names

        return (
            super().clarify_error(error)
            or access.explain_access_error(error, self.config)
            or unknown_names.explain_unknown_name(error, self.config)
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
