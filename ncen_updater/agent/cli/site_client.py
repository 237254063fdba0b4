"""The one interface of commands to a site: alone on the site itself, or through its service.

Both give the same documents and the same errors, so that a command parses, asks and shows, and does
not know who answers. What the service cannot do is asked of :class:`LocalSiteClient` alone, and
said where it is chosen (:meth:`.cli.session.AgentSession.client`). Light: ``status`` is on this
path.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ncen_updater.agent.config.essential_settings import read_service_socket
from ncen_updater.agent.reports.command_results import CommandResult, JsonDocument
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import NO_SERVICE

if TYPE_CHECKING:
    from packaging.version import Version

    from ncen_updater.agent.cli.session import AgentSession
    from ncen_updater.agent.service.api_client import SiteServiceClient
    from ncen_updater.agent.storage.journal.chain_head import ChainHead


class SiteClient(Protocol):
    """A site, whoever answers for it. Documents are of the forms that JSON has.

    Every method may raise an :class:`~ncen_updater.common.errors.UpdaterError`: nothing was changed
    by the request itself then.
    """

    def read_status(self) -> JsonDocument:
        """Return what runs, the last change and what is on offer; a missing part is an error."""

    def read_history(self, change: str | None, limit: int) -> JsonDocument:
        """Return changes and imports, newest first, or one change in full.

        Raises:
            UNKNOWN_CHANGE: If there is none of this id.
        """

    def set_hold(self, reason: str, until: datetime | None, *, dry_run: bool) -> JsonDocument:
        """Forbid upgrades."""

    def count_holds(self) -> int:
        """How many holds are in force."""

    def lift_holds(self) -> int:
        """Allow upgrades again; returns how many holds there were."""

    def read_next_upgrade_summary(self) -> tuple[str | None, JsonDocument | None]:
        """Return the next release and when it starts automatically; None for what is not known.

        As the service found it last; not known while a change is open.
        """

    def require_no_hold(self) -> None:
        """Refuse while upgrades are forbidden, before a person is asked anything.

        Raises:
            HELD: If so.
        """

    def require_right(self, role: str) -> None:
        """Refuse who may not do something, before anything of it is shown or asked.

        Args:
            role: ``operate`` or ``approve``.

        Raises:
            RequestRefusedError: If so, with who may.
            APPROVER_IS_SHARED_ACCOUNT: If their approval could be anybody's, where two people have
                to approve.
        """

    def confirm_release(self, *, dry_run: bool) -> JsonDocument:
        """End the watched time."""

    def is_service_running(self) -> bool:
        """Whether the service of the site goes on by itself with what was written down."""

    def read_next_upgrade(
        self, target: Version | None, *, not_before: datetime | None = None
    ) -> JsonDocument:
        """Return the next upgrade: its rehearsal, what an approval is bound to, approvers, start.

        Args:
            target: The release that is named.
            not_before: A time for which to report when the upgrade would start.

        Raises:
            NOTHING_TO_APPROVE: If there is no next upgrade.
            FEED_NEVER_READ: If it is not known yet.
            SOAK_NOT_FINISHED, OPEN_CHANGE: If a change is open; it has to end first.
        """

    def approve(self, next_upgrade: JsonDocument) -> None:
        """Say yes to an outlook."""

    def withdraw(self, version: Version | None, *, rollbacks: bool) -> int:
        """Take one's own yes back, whatever is on offer.

        Args:
            version: To this release; to all of them where it is left out.
            rollbacks: The yes to going back is meant, not to upgrades.

        Returns:
            How many there were.
        """

    def schedule(self, next_upgrade: JsonDocument, not_before: datetime) -> None:
        """Choose when what was seen may begin."""

    def count_schedules(self) -> int:
        """How many times are chosen, of whatever."""

    def cancel_schedule(self) -> int:
        """Take the chosen time back, whatever is on offer; return how many there were."""

    def require_consent(self, target: Version, *, retry: bool) -> None:
        """Refuse an upgrade that needs approvals and has too few, before anybody is asked.

        Raises:
            NOT_REHEARSED, REHEARSAL_OUTDATED, APPROVAL_MISSING: If it does.
        """

    def check_feed(self) -> CommandResult:
        """Read the signed list."""

    def prepare_plan(
        self, target: Version | None, *, retry: bool, sql: bool = False
    ) -> CommandResult:
        """Fetch, build and plan; with ``sql`` every statement, and only that."""

    def build_dossier(self, target: Version | None) -> CommandResult:
        """Put together what people decide on: facts, and the page in ``html``."""

    def run_doctor(self) -> CommandResult:
        """Check the site for problems that block an upgrade."""

    def verify(self, heads: Sequence[ChainHead], *, journal_only: bool) -> CommandResult:
        """Compare what is there with what was recorded, and with what a person kept."""

    def collect_support_bundle(
        self, leave_out: Sequence[str], show: Sequence[str]
    ) -> CommandResult:
        """Gather what the Secretariat needs, packed in ``archive`` (base64) where nothing leaks."""

    def update_agent(self, target: Version | None, *, retry: bool) -> CommandResult:
        """Update ncen-updater itself."""

    def rehearse(self, target: Version | None, *, retry: bool) -> CommandResult:
        """Try a release on copies of the site's data."""

    def upgrade(self, target: Version | None, *, retry: bool) -> CommandResult:
        """Upgrade."""

    def import_bundle(self, file: Path, *, dry_run: bool) -> CommandResult:
        """Verify a bundle whole and, unless ``dry_run``, keep it."""

    def plan_rollback(self, accept_loss: int | None) -> CommandResult:
        """Say how a rollback would go, with the loss counted, and who has to approve it yet."""

    def approve_rollback(self, rollback_plan: JsonDocument, accept_loss: int | None = None) -> None:
        """Say yes to a rollback as :meth:`plan_rollback` showed it; so many records may be lost."""

    def rollback(
        self, accept_loss: int | None, undoes: str | None, emergency: str | None = None
    ) -> CommandResult:
        """Go back to the release before.

        Args:
            accept_loss: So many records may be lost.
            undoes: The upgrade that a person was asked about; another one is not undone.
            emergency: Why it cannot wait for those who have to approve it.
        """


def find_service(run: AgentSession) -> SiteServiceClient | None:
    """Return the service of the site; None where a command has to work alone.

    It does so where it is told to, where nothing listens, and where the service may not be spoken
    with: then the rights on the files decide, as without a service.
    """
    path = read_service_socket(run.config)
    try:
        if run.local_only or not path.is_socket():
            return None
    except OSError:  # a directory that may not be entered
        return None
    from ncen_updater.agent.service.api_client import SiteServiceClient

    client = SiteServiceClient(path, run.language)
    return client if client.is_reachable() else None


def require_service(run: AgentSession) -> SiteServiceClient:
    """Return the service of the site.

    Raises:
        NO_SERVICE: If none answers.
    """
    client = find_service(run)
    if client is None:
        raise UpdaterError(NO_SERVICE, path=read_service_socket(run.config))
    return client
