"""The one interface of commands to a site: alone on the site itself, or through its service.

Both give the same documents and the same errors, so that a command parses, asks and shows, and does
not know who answers. What the service cannot do is asked of :class:`LocalSite` alone, and said
where it is chosen (:meth:`.cli.session.AgentSession.client`). Light: ``status`` is on this path.
"""

# ruff: noqa: D102 - what SiteClient says of a method is not said again

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from functools import cached_property
from inspect import signature
from operator import itemgetter
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, urlencode

from ncen_updater.agent.config.errors import ConfigError
from ncen_updater.agent.config.paths import load_places, service_socket
from ncen_updater.agent.engine.approvals.outlook import (
    approved_beside,
    outlook_document,
    require_approvals,
    require_settled,
)
from ncen_updater.agent.engine.approvals.store import ApprovalStore, require_somebody
from ncen_updater.agent.engine.lock import lock_holder
from ncen_updater.agent.engine.outcome import change_document
from ncen_updater.agent.engine.permitted import held, require_no_hold
from ncen_updater.agent.engine.rehearsal.store import Rehearsals, rehearsal_document
from ncen_updater.agent.engine.soaking import confirm, in_soak
from ncen_updater.agent.model.facts import ChangeFacts
from ncen_updater.agent.model.names import JOURNAL, SERVICE_LOCK
from ncen_updater.agent.model.person import Person
from ncen_updater.agent.policy.beginning import beginning, behind_another, with_yes
from ncen_updater.agent.policy.deeds import deed_words
from ncen_updater.agent.reports.answers import (
    Answer,
    Document,
    Line,
    bundle_answer,
    import_answer,
    notice_words,
    other_releases,
    path_document,
    path_words,
    plan_document,
    plan_words,
    rehearsal_words,
    result_answer,
    way_answer,
)
from ncen_updater.agent.reports.status import need, or_none, read_status
from ncen_updater.agent.service.errors import (
    Refused,
    refusal,
)
from ncen_updater.agent.service.report import (
    REPORTED,
    change_report,
    history_report,
    open_change,
    site_report,
)
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import SiteHistory
from ncen_updater.agent.storage.service_state import Assessment, ServiceState
from ncen_updater.common.cli.errors import NOTHING_CHANGED
from ncen_updater.common.cli.program import user_name
from ncen_updater.common.cli.render import finding_document, finding_lines, format_time
from ncen_updater.common.documents import jsonable
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import (
    FEED_NEVER_READ,
    INSPECTION_FAILED,
    NO_SERVICE,
    NO_SUCH_THING,
    NOT_ALLOWED,
    NOT_PREPARED,
    NOTHING_TO_APPROVE,
    ORDER_TORN,
    TOO_MANY_STREAMS,
    UNKNOWN_CHANGE,
    WAY_BACK_CHANGED,
    ExitCode,
)
from ncen_updater.common.progress import Progress, ProgressUpdate

if TYPE_CHECKING:
    from packaging.version import Version

    from ncen_updater.agent.adapters.databases.tried import TriedValues
    from ncen_updater.agent.cli.session import AgentSession
    from ncen_updater.agent.engine.approvals.approving import ApprovalSubject
    from ncen_updater.agent.engine.approvals.choosing import ChosenRelease
    from ncen_updater.agent.engine.approvals.model import ApprovalCount
    from ncen_updater.agent.engine.operations import Operations
    from ncen_updater.agent.engine.rollback_plan import RollbackPlan
    from ncen_updater.agent.engine.site import Site
    from ncen_updater.agent.reports.status import SiteStatus
    from ncen_updater.agent.service.client import Client
    from ncen_updater.agent.storage.journal.head import ChainHead
    from ncen_updater.feed.upgrade_path import NoPath, UpgradePath

#: How often, and how long after one another, the service is asked whether it has looked.
LOOKS, LOOK_S = 60, 0.5
#: Parts of a site that say whether a change is open.
SETTLED = frozenset({"journal", "soak_s"})
#: So long the service keeps who waits for an inspection, before it says how far that is.
INSPECT_WAIT_S = 2


class SiteClient(Protocol):
    """A site, whoever answers for it. Documents are of the forms that JSON has.

    Every method may raise an :class:`~ncen_updater.common.errors.UpdaterError`: nothing was changed
    by the request itself then.
    """

    def status(self) -> Document:
        """What runs, what was done last, what is on offer; what cannot be had is an error."""

    def history(self, change: str | None, limit: int) -> Document:
        """Changes and imports, newest first; or one change whole.

        Raises:
            UnknownChange: If there is none of this id.
        """

    def hold(self, reason: str, until: datetime | None, *, dry_run: bool) -> Document:
        """Forbid upgrades."""

    def holds(self) -> int:
        """How many holds are in force."""

    def unhold(self) -> int:
        """Allow upgrades again; returns how many holds there were."""

    def comes_next(self) -> tuple[str | None, Document | None]:
        """The release that comes next, and when that begins by itself; None for what is not known.

        As the service found it last; not known while a change is open.
        """

    def require_no_hold(self) -> None:
        """Refuse while upgrades are forbidden, before a person is asked anything.

        Raises:
            Held: If so.
        """

    def require_right(self, role: str) -> None:
        """Refuse who may not do something, before anything of it is shown or asked.

        Args:
            role: ``operate`` or ``approve``.

        Raises:
            Refused: If so, with who may.
            RootIsNobody: If their approval could be anybody's, where two people have to approve.
        """

    def confirm(self, *, dry_run: bool) -> Document:
        """End the watched time."""

    def goes_on(self) -> bool:
        """Whether the service of the site goes on by itself with what was written down."""

    def outlook(self, target: Version | None, *, not_before: datetime | None = None) -> Document:
        """What comes next: its rehearsal, what an approval is bound to, who approved, its time.

        Args:
            target: The release that is named.
            not_before: Say when it begins if this time were chosen for it.

        Raises:
            NothingToApprove: If nothing does.
            FeedNeverRead: If that is not known yet.
            WatchedFirst, OpenChange: If a change is open: what it comes to is to be seen first.
        """

    def approve(self, seen: Document) -> None:
        """Say yes to an outlook."""

    def withdraw(self, version: Version | None, *, back: bool) -> int:
        """Take one's own yes back, whatever is on offer.

        Args:
            version: To this release; to all of them where it is left out.
            back: The yes to going back is meant, not to upgrades.

        Returns:
            How many there were.
        """

    def schedule(self, seen: Document, not_before: datetime) -> None:
        """Choose when what was seen may begin."""

    def schedules(self) -> int:
        """How many times are chosen, of whatever."""

    def cancel_schedule(self) -> int:
        """Take the chosen time back, whatever is on offer; return how many there were."""

    def require_consent(self, target: Version, *, retry: bool) -> None:
        """Refuse an upgrade that needs approvals and has too few, before anybody is asked.

        Raises:
            NotRehearsed, RehearsalOutdated, ApprovalMissing: If it does.
        """

    def check(self) -> Answer:
        """Read the signed list."""

    def prepare(self, target: Version | None, *, retry: bool, sql: bool = False) -> Answer:
        """Fetch, build and plan; with ``sql`` every statement, and only that."""

    def dossier(self, target: Version | None) -> Answer:
        """Put together what people decide on: facts, and the page in ``html``."""

    def doctor(self) -> Answer:
        """Look for everything that would stand in the way."""

    def verify(self, heads: Sequence[ChainHead], *, journal_only: bool) -> Answer:
        """Compare what is there with what was recorded, and with what a person kept."""

    def support_bundle(self, leave_out: Sequence[str], show: Sequence[str]) -> Answer:
        """Gather what the Secretariat needs, packed in ``archive`` (base64) where nothing leaks."""

    def self_update(self, target: Version | None, *, retry: bool) -> Answer:
        """Renew the agent itself."""

    def rehearse(self, target: Version | None, *, retry: bool) -> Answer:
        """Try a release on copies of the site's data."""

    def upgrade(self, target: Version | None, *, retry: bool) -> Answer:
        """Upgrade."""

    def import_bundle(self, file: Path, *, dry_run: bool) -> Answer:
        """Verify a bundle whole and, unless ``dry_run``, keep it."""

    def way_back(self, accept_loss: int | None) -> Answer:
        """Say how a rollback would go, with the loss counted, and who has to approve it yet."""

    def approve_back(self, seen: Document, accept_loss: int | None = None) -> None:
        """Say yes to a rollback as :meth:`way_back` showed it; so many records may be lost."""

    def rollback(
        self, accept_loss: int | None, undoes: str | None, emergency: str | None = None
    ) -> Answer:
        """Go back to the release before.

        Args:
            accept_loss: So many records may be lost.
            undoes: The upgrade that a person was asked about; another one is not undone.
            emergency: Why it cannot wait for those who have to approve it.
        """


# ---- on the site itself --------------------------------------------------------------------------


class LocalSite:
    """Works on the site itself, with the rights of this process.

    Args:
        run: The command that asks.
    """

    def __init__(self, run: AgentSession) -> None:
        self._run = run
        self._subject: ApprovalSubject | None = None

    @cached_property
    def _site(self) -> Site:
        return self._run.open_site()

    @cached_property
    def _person(self) -> Person:
        from ncen_updater.agent.cli.person import person

        return person()

    def _plain(self, document: Mapping[str, object]) -> Document:
        shown = jsonable(document, self._run.language)
        assert isinstance(shown, dict)  # noqa: S101 - what a mapping becomes
        return shown

    def _journal(self, *, read_only: bool = True) -> Journal:
        return Journal.open(load_places(self._run.config).state / JOURNAL, read_only=read_only)

    # ---- looking -------------------------------------------------------------------------------

    def status(self) -> Document:
        places = load_places(self._run.config, nameless=True)
        with suppress(FileNotFoundError):
            os.scandir(places.state).close()  # else every part of it says the same in other words
        looked = read_status(places, datetime.now(UTC), REPORTED)
        return self._plain(site_report(looked, self._run.language)[0])

    def history(self, change: str | None, limit: int) -> Document:
        with self._journal() as journal:
            if change is None:
                return self._plain(history_report(journal, limit))
            try:
                return self._plain(change_report(journal, change))
            except KeyError as error:
                raise UpdaterError(UNKNOWN_CHANGE, change=change, state=NOTHING_CHANGED) from error

    # ---- records -------------------------------------------------------------------------------

    def hold(self, reason: str, until: datetime | None, *, dry_run: bool) -> Document:
        by = user_name()
        with self._journal(read_only=dry_run) as journal:
            if not dry_run:
                SiteHistory(journal).hold(reason, by, until)
        return self._plain({"held": not dry_run, "reason": reason, "by": by, "until": until})

    def holds(self) -> int:
        places = load_places(self._run.config)
        return len(need(read_status(places, datetime.now(UTC), {"journal"}).journal).holds)

    def unhold(self) -> int:
        with self._journal(read_only=False) as journal:
            return SiteHistory(journal).lift_holds(user_name())

    def comes_next(self) -> tuple[str | None, Document | None]:
        status = self._waiting()
        service_state = or_none(status.service_state)
        if not service_state or need(status.journal).change is not None:
            return None, None
        found = service_state.assessment
        return found.target if found else None, self._begins(status, service_state)[0]

    def _chosen(self, journal: Journal) -> ChosenRelease:
        """Return what people chose by approving it, which comes before the newest."""
        from ncen_updater.agent.engine.approvals.choosing import chosen_release
        from ncen_updater.feed.errors import TrustError

        try:
            view = self._site.source.last_view()
        except TrustError:  # said by whoever reads the list for more than this
            view = None
        return chosen_release(self._site, journal, view.offers if view else ())

    def _named(self, target: Version | None) -> Version | None:
        """Return what a person named, or what people chose by approving it."""
        if target is not None:
            return target
        with self._journal() as journal:
            return self._chosen(journal).version

    def _before_newest(self, version: str | None = None) -> Iterator[Line]:
        """Say that people chose a release that is not the newest.

        Args:
            version: Where the path leads that is shown; nothing is said where it is another one.
        """
        with self._journal() as journal:
            chosen = self._chosen(journal).version
            newest = self._newest(journal) if chosen is not None else None
        if chosen is None or newest == str(chosen) or version not in (None, str(chosen)):
            return
        text = N_("{version} was approved here: it goes before {newest}, the newest release.")
        yield Text(text, {"version": chosen, "newest": newest or "-"})

    def _waiting(self) -> SiteStatus:
        """Read what says when the next upgrade begins."""
        parts = {"journal", "rehearsals", "service_state"}
        return read_status(load_places(self._run.config), datetime.now(UTC), parts)

    def _begins(
        self,
        status: SiteStatus,
        service_state: ServiceState,
        approved: Sequence[str] = (),
        people: ApprovalCount | None = None,
        not_before: datetime | None = None,
    ) -> tuple[Document, Document]:
        """When it begins by itself: as it stands, and once who asks has approved, too."""
        from ncen_updater.agent.config.loader import load_config
        from ncen_updater.agent.service.decision_inputs import inputs_for

        serves = lock_holder(status.places.state / SERVICE_LOCK) is not None
        settings = load_config(self._run.config).service
        facts = inputs_for(status, service_state, settings, status.now)
        if not_before is not None:
            facts = replace(facts, not_before=not_before)
        begins = behind_another(beginning(facts, serves=serves), facts.target, approved)
        after_yes = begins
        if people is not None:
            counts = people.adds(self._person.uid)
            after_yes = with_yes(facts, begins, counts=counts, serves=serves)
        return self._plain(begins.to_json()), self._plain(after_yes.to_json())

    def require_no_hold(self) -> None:
        with self._journal() as journal:
            require_no_hold(journal, datetime.now(UTC), self._run.zone)

    def require_right(self, role: str) -> None:
        """See :class:`SiteClient`; what else is allowed here, the rights on the files decide."""
        if role != "approve":
            return

        require_somebody(self._person, self._site.config.service.approvals)

    def confirm(self, *, dry_run: bool) -> Document:
        with self._journal(read_only=dry_run) as journal:
            change = in_soak(journal) if dry_run else confirm(journal, user_name())
            return self._plain({"confirmed": not dry_run, "change": change_document(change)})

    def goes_on(self) -> bool:
        return lock_holder(load_places(self._run.config).state / SERVICE_LOCK) is not None

    def outlook(self, target: Version | None, *, not_before: datetime | None = None) -> Document:
        from ncen_updater.agent.engine.approvals import approving
        from ncen_updater.agent.engine.pending_rollback import left_behind

        site = self._site
        looked = read_status(load_places(self._run.config), datetime.now(UTC), SETTLED)
        change = open_change(looked)
        require_settled(change and self._plain(change), self._run.zone)
        with self._journal() as journal, self._run.progress() as progress:
            chosen = self._chosen(journal)
            wanted = target or chosen.version
            self._subject = found = approving.subject(site, journal, progress, wanted)
            newest = self._newest(journal)
            current = str(site.slots.current())
            rehearsal = Rehearsals(journal).last(current, found.target)
            left = left_behind(journal) & {hop.document.manifest.version for hop in found.plan.hops}
        assessment = Assessment(
            event=0,
            current=current,
            target=found.target,
            prepared=True,
            rehearsed=found.standing.rehearsed,
            binding=found.binding,
            left=bool(left),
        )
        status = self._waiting()
        known = or_none(status.service_state) or ServiceState()
        begins, after_yes = self._begins(
            status, replace(known, assessment=assessment), chosen.approved, found.people, not_before
        )
        document = outlook_document(
            current=current,
            target=found.target,
            rehearsed=found.standing.rehearsed,
            plan=found.plan.digest,
            binding=found.binding,
            bad_until=None,  # one that failed here lately is nothing to approve
            voids=[void.text for void in found.standing.voids],
            people=found.people,
            scheduled=found.scheduled,
            rehearsal=rehearsal,
            begins=begins,
            begins_after_yes=after_yes,
            newest=newest if newest != found.target else None,
            approved=approved_beside(found.target, chosen.approved),
            gone=chosen.gone,
            used_up=need(status.journal).used_up,
            open_change=None,
        )
        return self._plain(document)

    def _newest(self, journal: Journal) -> str | None:
        """Return the newest release for this site by the last verified list."""
        from ncen_updater.agent.engine.operations import Operations
        from ncen_updater.common.progress import Silent
        from ncen_updater.feed.upgrade_path import UpgradePath

        path = Operations(self._site, Silent()).known_path(journal)
        return path.target.version if isinstance(path, UpgradePath) else None

    def approve(self, seen: Document) -> None:
        from ncen_updater.agent.engine.approvals import approving
        from ncen_updater.agent.reports.dossier.store import keep_dossiers

        assert self._subject is not None  # noqa: S101 - it was seen
        with self._journal(read_only=False) as journal:
            approving.approve(journal, self._subject, self._person)
            keep_dossiers(self._site, journal, self._subject.target)

    def withdraw(self, version: Version | None, *, back: bool) -> int:
        from ncen_updater.agent.reports.dossier.store import keep_dossiers

        with self._journal(read_only=False) as journal:
            consent, who = ApprovalStore(journal), self._person
            mine = [one.version for one in consent.of_releases() if one.approval.uid == who.uid]
            count = consent.take_back(who, version, back=back)
            for release in dict.fromkeys(mine):
                keep_dossiers(self._site, journal, release)
        return count

    def schedule(self, seen: Document, not_before: datetime) -> None:
        from ncen_updater.agent.engine.approvals import approving

        assert self._subject is not None  # noqa: S101 - it was seen
        with self._journal(read_only=False) as journal:
            approving.schedule(journal, self._subject, not_before, self._person)

    def schedules(self) -> int:

        with self._journal() as journal:
            return len(ApprovalStore(journal).schedules())

    def cancel_schedule(self) -> int:

        with self._journal(read_only=False) as journal:
            return ApprovalStore(journal).cancel_schedule(self._person)

    def require_consent(self, target: Version, *, retry: bool) -> None:
        from ncen_updater.agent.engine.approvals.status import consent_required, require_consent
        from ncen_updater.agent.engine.operations import Operations
        from ncen_updater.common.progress import Silent
        from ncen_updater.feed.upgrade_path import UpgradePath

        needed = consent_required(self._site, scheduled=False)
        if needed is None:
            return
        with self._run.progress() as progress, self._journal() as journal:
            path = Operations(self._site, Silent()).known_path(journal, target, retry=retry)
            if isinstance(path, UpgradePath):
                require_consent(self._site, progress, approvals=needed)(journal, path)

    # ---- work ----------------------------------------------------------------------------------

    def check(self) -> Answer:
        from ncen_updater.agent.engine.operations import Operations
        from ncen_updater.agent.self_update.renewing import agent_on_offer, refresh_agents
        from ncen_updater.feed.offline.store import read_import

        config = self._run.config
        site = self._site
        with self._run.progress() as progress:
            progress.tell(Text(N_("reading the signed list")))
            operations = Operations(site, progress)
            path = operations.path()
            operations.look_at_clocks()
            agents_error = refresh_agents(site, config)
        agent = agent_on_offer(site, config)
        current, view = str(site.slots.current()), site.source.last_view()
        product, words = site.config.site.product, list[Line]()
        record = read_import(site.config.paths.received_directory)
        read_at = view.checked_at if view else None
        zone = site.config.service.zone()
        by_medium = record is not None and read_at == record.imported_at
        if by_medium and record is not None:
            until = format_time(record.usable_until, zone)
            text = (
                N_("By the lists that were imported at {at}; they may be used until {until}.")
                if site.config.feed.offline
                else N_(
                    "The feed cannot be reached. By the lists that were imported at {at}; they may "
                    "be used until {until}."
                )
            )
            words.append(Text(text, {"at": format_time(record.imported_at, zone), "until": until}))
        offers = view.offers if view else ()
        others = other_releases(path, offers, site.slots.current())
        words += path_words(product, current, path, self._run.zone)
        if others:
            values = {"versions": ", ".join(others), "example": others[-1]}
            text = N_("Older, to be had by name ('ncen-updater plan {example}'): {versions}")
            words.append(Text(text, values))
        words += self._before_newest()
        gone = next((o.withdrawn for o in offers if o.version == current), None)
        if gone is not None:
            words += notice_words(product, current, gone.reason, gone.advice)
        if agent is not None:
            values = {"version": agent}
            words.append(Text(N_("Agent {version} is on offer: 'self-update'."), values))
        document = {
            "product": product,
            "current": current,
            "agent": {"version": agent, "error": agents_error.code if agents_error else None},
            **path_document(path, self._run.language, current),
            "others": list(others),
            "running_withdrawn": gone.model_dump() if gone else None,
            "imported": by_medium,
            "checked_at": read_at,
            "expires_at": view.expires_at if view else None,
        }
        return Answer(document, words)

    def prepare(
        self,
        target: Version | None,
        *,
        retry: bool,
        sql: bool = False,
        prepared: bool = False,
    ) -> Answer:
        """See :class:`SiteClient`; with ``prepared`` nothing is fetched, and the SQL stands beside.

        Raises:
            NotPrepared: If something would have to be.
        """
        from ncen_updater.agent.engine.operations import Operations
        from ncen_updater.agent.engine.plan import make_plan
        from ncen_updater.feed.upgrade_path import UpgradePath

        site, language = self._site, self._run.language
        current, target = site.slots.current(), self._named(target)
        with self._run.progress() as progress:
            if prepared:
                path = self._prepared(target, retry=retry)
            else:
                progress.tell(Text(N_("reading the signed list")))
                path = Operations(site, progress).path(target, retry=retry)
            words = list(path_words(site.config.site.product, str(current), path, self._run.zone))
            if not isinstance(path, UpgradePath) or current is None:
                return Answer(path_document(path, language, str(current)), words)
            words += self._before_newest(path.target.version)
            made = make_plan(site, current, path, progress)
            with self._journal() as journal:
                shown = Rehearsals(journal).last(str(current), path.target.version)
        report = shown.report if shown is not None else None
        made = made.learnt(report)
        if sql:
            return Answer({"digest": made.digest, "sql": made.sql()}, [made.sql()])
        beside = {"sql": made.sql()} if prepared else {}
        return Answer(
            {**plan_document(path, made, language, report), **beside},
            [*words, *plan_words(made, language, report)],
            ExitCode.BLOCKED if made.blocked else ExitCode.OK,
        )

    def _prepared(self, target: Version | None, *, retry: bool = False) -> UpgradePath | NoPath:
        """Choose a path from what is here, all of whose slots stand.

        Raises:
            NotPrepared: If one does not.
        """
        from ncen_updater.agent.engine.operations import Operations
        from ncen_updater.agent.service.assess import built
        from ncen_updater.common.progress import Silent
        from ncen_updater.feed.upgrade_path import UpgradePath

        with self._journal() as journal:
            path = Operations(self._site, Silent()).known_path(journal, target, retry=retry)
        for hop in path.hops if isinstance(path, UpgradePath) else ():
            if not built(self._site, hop):
                raise UpdaterError(NOT_PREPARED, version=hop.version, state=NOTHING_CHANGED)
        return path

    def dossier(self, target: Version | None, *, prepared: bool = False) -> Answer:
        """See :class:`SiteClient`; with ``prepared`` nothing is fetched for it."""
        from ncen_updater.agent.engine.approvals import approving
        from ncen_updater.agent.reports.dossier import page
        from ncen_updater.agent.reports.dossier.document import dossier_document
        from ncen_updater.agent.reports.dossier.gather import gather

        site, language, target = self._site, self._run.language, self._named(target)
        if prepared:
            self._prepared(target)
        with self._run.progress() as progress, self._journal() as journal:
            found = approving.subject(site, journal, progress, target)
            facts = gather(site, journal, found)
        content = page(facts, language)
        document = {
            "version": found.target,
            "binding": found.binding,
            "sha256": hashlib.sha256(content).hexdigest(),
            "html": content.decode(),
            "facts": dossier_document(facts, language),
        }
        return Answer(document)

    def doctor(self) -> Answer:
        from ncen_updater.agent.reports.diagnostics.doctor import diagnose

        with self._run.progress() as progress:
            progress.tell(Text(N_("looking at the site")))
            away: tuple[Finding, ...] = ()
            try:
                if (found := seen_by_unit(self._run, progress)) is not None:
                    return found
            except (UpdaterError, TimeoutError) as error:
                told = UpdaterError(INSPECTION_FAILED, reason=str(error))
                away = (Finding(told.code, Severity.STRICT, told.what_text, told.remedy_text),)
            findings = (*away, *diagnose(self._run.config, progress))
        blocks = any(finding.severity is Severity.STRICT for finding in findings)
        words: list[Line] = list(finding_lines(findings, self._run.language))
        if not (blocks or any(found.code == "NU-6001" for found in findings)):
            words.append(Text(N_("Nothing stands in the way of an upgrade.")))
        document = {
            "healthy": not blocks,
            "findings": [finding_document(found, self._run.language) for found in findings],
        }
        return Answer(document, words, ExitCode.BLOCKED if blocks else ExitCode.OK)

    def verify(self, heads: Sequence[ChainHead], *, journal_only: bool) -> Answer:
        from ncen_updater.agent.reports.diagnostics.verify import verify_journal, verify_site

        site = None if journal_only else self._site
        with self._journal() as journal, self._run.progress() as progress:
            if site is None:
                findings = verify_journal(journal, heads)
            else:
                progress.tell(Text(N_("comparing the site with its journal")))
                findings = verify_site(site, journal, progress, heads)
            head = journal.head()
        differs = any(finding.severity is Severity.STRICT for finding in findings)
        words: list[Line] = list(finding_lines(findings, self._run.language))
        if not findings and site is None:
            words.append(Text(N_("The journal is whole: every event stands where it was written.")))
        elif not findings:
            words.append(Text(N_("Everything is as it was recorded.")))
        elif all(finding.severity is Severity.INFO for finding in findings):
            words.append(Text(N_("Everything else is as it was recorded.")))
        words.append(Text(N_("Head of the journal: {head}"), {"head": head}))
        document = {
            "head": str(head),
            "as_recorded": not differs,
            "findings": [finding_document(found, self._run.language) for found in findings],
        }
        return Answer(document, words, ExitCode.NEEDS_PERSON if differs else ExitCode.OK)

    def support_bundle(self, leave_out: Sequence[str], show: Sequence[str]) -> Answer:
        import base64

        from ncen_updater.agent.reports.diagnostics.support_bundle.bundle import make_bundle, packed

        now = datetime.now(UTC)
        with self._run.progress() as progress:
            progress.tell(Text(N_("gathering")))
            bundle = make_bundle(self._run.config, progress, now, leave_out=leave_out)
        archive = None if bundle.leaks else base64.b64encode(packed(bundle, now)).decode()
        return bundle_answer(bundle, show, archive)

    def self_update(self, target: Version | None, *, retry: bool, dry_run: bool = False) -> Answer:
        """See :class:`SiteClient`; with ``dry_run`` only what would be done."""
        from ncen_updater.agent.self_update.renewing import agent_directory, agent_source, renew
        from ncen_updater.agent.self_update.slots import AgentSlots

        site = self._site
        with self._run.progress() as progress:
            progress.tell(Text(N_("reading the signed list of agents")))
            done = renew(
                site,
                agent_source(site, self._run.config),
                AgentSlots(agent_directory(site)),
                progress,
                by=user_name(),
                target=target,
                retry=retry,
                dry_run=dry_run,
            )
        values = {"origin": done.origin, "version": done.version}
        words: list[Line] = []
        if done.version is None:
            words.append(Text(N_("Agent {origin} is the newest for this site."), values))
        elif done.chosen:
            words.append(Text(N_("Agent {version} was chosen in place of {origin}."), values))
            words.append(Text(N_("It is on trial; it starts when the service starts again.")))
        else:
            words.append(Text(N_("Agent {version} would take the place of {origin}."), values))
        return Answer({"from": done.origin, "to": done.version, "chosen": done.chosen}, words)

    def rehearse(self, target: Version | None, *, retry: bool, dry_run: bool = False) -> Answer:
        """See :class:`SiteClient`; with ``dry_run`` only what would be rehearsed."""
        from ncen_updater.agent.engine.interruption import Interruption
        from ncen_updater.agent.engine.operations import Operations
        from ncen_updater.agent.engine.rehearsal.rehearse import Rehearser
        from ncen_updater.agent.model.ids import new_change_id
        from ncen_updater.agent.reports.dossier.store import keep_dossiers
        from ncen_updater.feed.upgrade_path import UpgradePath

        site, interruption = self._site, Interruption()
        target = self._named(target)
        with self._run.progress() as progress, interruption.handled():
            operations = Operations(site, progress)
            looking = operations.reading() if dry_run else operations.between_changes("rehearse")
            with looking as journal:
                path = operations.known_path(journal, target, retry=retry)
                if dry_run or not isinstance(path, UpgradePath):
                    current = str(site.slots.current())
                    document = path_document(path, self._run.language, current)
                    words = tuple(
                        path_words(site.config.site.product, current, path, self._run.zone)
                    )
                    return Answer({"rehearsal": None, **document}, words)
                rehearser = Rehearser(site, journal, progress, new_change_id, interruption)
                record = rehearser.run(path)
                pages = keep_dossiers(site, journal, record.to_version)
        found = rehearsal_document(record)
        # Not where it lies: most of those who decide cannot open that.
        kept = [Text(N_("'ncen-updater dossier' writes the page for those who decide."))]
        return Answer(
            {"rehearsal": found, "dossiers": [str(page) for page in pages]},
            [*rehearsal_words(found, self._run.language), *(kept if pages else ())],
        )

    def upgrade(
        self,
        target: Version | None,
        *,
        retry: bool,
        scheduled: bool = False,
        begin_before: datetime | None = None,
    ) -> Answer:
        """See :class:`SiteClient`.

        Args:
            target: The release that a person named.
            retry: Whether releases are tried again that failed here.
            scheduled: Whether nobody but the service begins it.
            begin_before: When the window closes in which officers may be kept out.
        """
        from ncen_updater.agent.engine.approvals.status import consent_required, require_consent

        site, target = self._site, self._named(target)
        with self._operations() as (operations, progress), self._gives_way():
            needed = consent_required(site, scheduled=scheduled)
            agree = None if needed is None else require_consent(site, progress, approvals=needed)
            result = operations.upgrade(target, retry=retry, begin_before=begin_before, agree=agree)
        before: tuple[Line, ...] = ()
        if not result.outcomes and result.path is not None:
            product, current = site.config.site.product, str(site.slots.current())
            before = tuple(path_words(product, current, result.path, self._run.zone))
        return result_answer(result, self._run.language, before)

    def import_bundle(self, file: Path, *, dry_run: bool) -> Answer:
        from ncen_updater.formats.bundle.bundle_file import open_file

        return self._import(file, user_name(), open_file, dry_run=dry_run)

    def import_ordered(self, number: int, *, dry_run: bool) -> Answer:
        """Import what an order of the service names in the tray, for whoever gave it.

        Raises:
            Refused: If there is no such order.
        """
        from ncen_updater.agent.storage.inbox import Tray
        from ncen_updater.agent.storage.journal.orders import OrderKind, Orders

        tray = Tray(self._site.state)
        with self._journal() as journal:
            order = Orders(journal).order(number)
        if order is None or order.kind is not OrderKind.IMPORT:
            raise Refused(NO_SUCH_THING, path=f"order {number}")
        person = order.person

        def opener(path: Path) -> int:
            return tray.open(path.name, person.uid)

        file = tray.path / str(order.data.get("file"))
        return self._import(file, person.who, opener, dry_run=dry_run)

    def _import(
        self, file: Path, by: str, opener: Callable[[Path], int], *, dry_run: bool
    ) -> Answer:
        from ncen_updater.agent.adapters.feed_reader.child import ChildSource
        from ncen_updater.agent.engine.import_bundle import import_bundle

        site = self._site
        child = ChildSource(site.config, self._run.config)
        with self._run.progress() as progress:
            record = import_bundle(
                site, child, file, progress, by=by, dry_run=dry_run, opener=opener
            )
        return import_answer(record, dry_run=dry_run, zone=self._run.zone)

    def way_back(self, accept_loss: int | None) -> Answer:
        from ncen_updater.agent.engine.approvals.rollback_approvals import back_subject
        from ncen_updater.agent.engine.operations import Operations

        site = self._site
        with self._run.progress() as progress:
            progress.tell(Text(N_("looking for the way back")))
            way = Operations(site, progress).way_back(accept_loss=accept_loss)
            with self._journal() as journal:
                needed = site.config.service.approvals
                subject = back_subject(journal, str(way.origin), needed)
                return way_answer(way, subject, self._run.language, _values_tried(journal, way))

    def approve_back(self, seen: Document, accept_loss: int | None = None) -> None:
        from ncen_updater.agent.engine.approvals.rollback_approvals import (
            approve_back,
            back_subject,
        )

        needed = self._site.config.service.approvals
        with self._journal(read_only=False) as journal:
            found = back_subject(journal, str(self._site.slots.current()), needed)
            if found.binding != seen["binding"]:
                raise UpdaterError(WAY_BACK_CHANGED, version=found.target, current=found.origin)
            approve_back(journal, found, self._person, accept_loss=accept_loss or 0)

    def rollback(
        self,
        accept_loss: int | None,
        undoes: str | None,
        emergency: str | None = None,
        *,
        order: int | None = None,
    ) -> Answer:
        """See :class:`SiteClient`; with ``order`` for whoever gave that order to the service."""
        from ncen_updater.agent.engine.approvals.rollback_approvals import (
            BackRequest,
            asked_by_order,
            back_subject,
            require_back,
        )
        from ncen_updater.agent.policy.going_back import BackConsent

        needed = self._site.config.service.approvals

        def agree(journal: Journal, way: RollbackPlan) -> ChangeFacts:
            # Who types it with the rights to is one who approves; so it is with an upgrade.
            by_hand = BackRequest(self._person, approver=True, emergency=emergency)
            asked = by_hand if order is None else asked_by_order(journal, order)
            found = back_subject(journal, str(way.origin), needed)
            verdict = require_back(journal, found, asked)
            approved = verdict.consent is BackConsent.APPROVED
            return ChangeFacts(binding=found.binding if approved else None)

        with self._operations() as (operations, _):
            result = operations.rollback(accept_loss=accept_loss, undoes=undoes, agree=agree)
        return result_answer(result, self._run.language)

    def _gives_way(self) -> AbstractContextManager[None]:
        from ncen_updater.agent.service.watched_time import gives_way

        return gives_way(self._site.state / JOURNAL)

    @contextmanager
    def _operations(self) -> Iterator[tuple[Operations, Progress]]:
        from ncen_updater.agent.engine.interruption import Interruption
        from ncen_updater.agent.engine.operations import Operations

        site, interruption = self._site, Interruption()
        with self._run.progress() as progress, interruption.handled():
            yield Operations(site, progress, interruption=interruption), progress


# ---- through the service -------------------------------------------------------------------------


#: By which name a form or a query has an argument, where that is another one.
_NAMES = {"target": "version", "seen": "binding"}


def _told(value: object) -> object:
    """Return an argument as a form or a query has it."""
    if isinstance(value, Mapping):  # what a person saw
        return value["binding"]
    if isinstance(value, datetime):
        return value.isoformat()
    if value is None or isinstance(value, bool | int | str):
        return value
    return [str(item) for item in value] if isinstance(value, Sequence) else str(value)


class _Delegated:
    """A method of :class:`SiteClient` that is one thing asked of the service.

    Args:
        way: How: ``request``, ``order`` or ``inspect``.
        what: The request, or what is ordered or looked at.
        read: Where the answer has what is returned; all of it by default.
    """

    def __init__(self, way: str, what: str, read: Callable[[Any], object] | None = None) -> None:
        self._way, self._what, self._read = way, what, read or (lambda found: found)

    def __set_name__(self, owner: type, name: str) -> None:
        """Know the arguments of the method."""
        self._signature = signature(getattr(SiteClient, name))

    def __get__(self, site: ServiceSite, owner: type) -> Callable[..., Any]:
        """Return the method of a site."""

        def call(*arguments: object, **named: object) -> object:
            given = self._signature.bind(site, *arguments, **named)
            given.apply_defaults()
            values = {_NAMES.get(k, k): _told(v) for k, v in given.arguments.items() if k != "self"}
            return self._read(getattr(site, self._way)(self._what, **values))

        return call


class ServiceSite:
    """Asks the service of the site, which asks the kernel who that is.

    Args:
        run: The command that asks.
        service: The service.
    """

    status = _Delegated("request", "GET /v1/status")
    holds = _Delegated("request", "GET /v1/holds", lambda found: len(found["holds"]))
    unhold = _Delegated("request", "DELETE /v1/holds", itemgetter("lifted"))
    require_right = _Delegated("request", "GET /v1/rights/{role}")
    approve = _Delegated("request", "POST /v1/approvals")
    schedule = _Delegated("request", "PUT /v1/schedule")
    cancel_schedule = _Delegated("request", "DELETE /v1/schedule", itemgetter("cancelled"))
    check = _Delegated("order", "check")
    rehearse = _Delegated("order", "rehearse")
    upgrade = _Delegated("order", "upgrade")
    rollback = _Delegated("order", "rollback")
    dossier = _Delegated("inspect", "dossier")
    doctor = _Delegated("inspect", "findings")
    support_bundle = _Delegated("inspect", "support-bundle")
    way_back = _Delegated("inspect", "way-back")

    def __init__(self, run: AgentSession, service: Client) -> None:
        self._run, self._service = run, service

    def request(self, asked: str, **values: object) -> Document:
        """Ask for one thing; what is not said is left out."""
        method, address = asked.split()
        given = {name: value for name, value in values.items() if value not in (None, "", [])}
        for name in re.findall(r"{(\w+)}", address):
            address = address.replace(f"{{{name}}}", quote(str(given.pop(name)), safe=""))
        if method in ("POST", "PUT"):
            return self._service.call(method, address, given or None)
        return self._service.call(method, f"{address}?{urlencode(given)}" if given else address)

    def history(self, change: str | None, limit: int) -> Document:
        if change is None:
            return self.request("GET /v1/history", limit=limit)
        try:
            return self.request("GET /v1/history/{id}", id=change)
        except UpdaterError as error:
            if error.code != NO_SUCH_THING.code:
                raise
            raise UpdaterError(UNKNOWN_CHANGE, change=change, state=NOTHING_CHANGED) from error

    def hold(self, reason: str, until: datetime | None, *, dry_run: bool) -> Document:
        if dry_run:
            who = self.status()["you"]["who"]
            return {"held": False, "reason": reason, "by": who, "until": jsonable(until)}
        return self.request("POST /v1/holds", reason=reason, until=_told(until))

    def comes_next(self) -> tuple[str | None, Document | None]:
        seen = self._seen()
        return (None, None) if seen["open_change"] else (seen["target"], seen["begins"])

    def require_no_hold(self) -> None:
        for hold in self.request("GET /v1/holds")["holds"]:
            error = held(
                hold["reason"], hold["by"], datetime.fromisoformat(hold["since"]), self._run.zone
            )
            error.state = NOTHING_CHANGED
            raise error

    def confirm(self, *, dry_run: bool) -> Document:
        return self.request("GET /v1/confirmation" if dry_run else "POST /v1/confirmation")

    def goes_on(self) -> bool:
        return True

    def outlook(self, target: Version | None, *, not_before: datetime | None = None) -> Document:
        """See :class:`SiteClient`; waits until the service has looked at what happened last."""
        seen = self._seen()
        require_settled(seen["open_change"], self._run.zone, state=NOTHING_CHANGED)
        seen = self._of(seen, target)
        if not_before is None:
            return seen
        return self.request("GET /v1/outlook", version=seen["target"], not_before=_told(not_before))

    def _of(self, seen: Document, target: Version | None) -> Document:
        """Return what was seen, of the release that was named.

        Raises:
            NotNext: If another release comes next than the one that was named.
        """
        if target is not None and target != type(target)(seen["target"] or "0"):
            return self.request("GET /v1/outlook", version=str(target))
        if seen["target"] is None:
            if self.status()["feed"] is None:
                raise UpdaterError(FEED_NEVER_READ, state=NOTHING_CHANGED)
            raise UpdaterError(
                NOTHING_TO_APPROVE, current=str(seen["current"]), state=NOTHING_CHANGED
            )
        return seen

    def _seen(self) -> Document:
        """Return the outlook, once the service has looked at what happened last."""
        seen = self.request("GET /v1/outlook")
        with self._run.progress() as progress:
            for _ in range(LOOKS):
                if seen["up_to_date"] or self.status()["service"]["running"]:
                    break
                progress.tell(Text(N_("the service looks at the site")))
                sleep(LOOK_S)
                seen = self.request("GET /v1/outlook")
        return seen

    def withdraw(self, version: Version | None, *, back: bool) -> int:
        named = {"of": "rollback"} if back else {"version": _told(version)}
        return int(self.request("DELETE /v1/approvals", **named)["withdrawn"])

    def schedules(self) -> int:
        return 1 if self._seen()["scheduled"] else 0

    def require_consent(self, target: Version, *, retry: bool) -> None:
        seen = self._of(self._seen(), target)
        # One who may approve alone does so by ordering it.
        if seen["needed"] > 1 or "approve" not in self.status()["you"]["roles"]:
            require_approvals(seen)

    def prepare(self, target: Version | None, *, retry: bool, sql: bool = False) -> Answer:
        """See :class:`SiteClient`; who may only look sees the plan of what is prepared already."""
        version = _told(target)
        try:
            answer = self.order("prepare", version=version, retry=retry)
        except UpdaterError as error:
            if error.code != NOT_ALLOWED.code:
                raise
        else:
            hops = answer.document.get("hops")
            if not sql or answer.error is not None or not hops:
                return answer
            version = hops[-1]["version"]  # the one whose plan that was
        answer = self.inspect("plan", version=version, retry=retry)
        plan, text = answer.document.get("plan"), answer.document.get("sql")
        if not (sql and isinstance(plan, dict) and isinstance(text, str)):
            shown = {key: value for key, value in answer.document.items() if key != "sql"}
            return replace(answer, document=shown)
        return Answer({"digest": plan["digest"], "sql": text}, [text])

    def verify(self, heads: Sequence[ChainHead], *, journal_only: bool) -> Answer:
        return self.inspect("proof" if journal_only else "verify", heads=_told(heads))

    def self_update(self, target: Version | None, *, retry: bool) -> Answer:
        answer = self.order("self-update", version=_told(target), retry=retry)
        wanted = answer.document.get("to") if answer.document.get("chosen") else None
        for _ in range(LOOKS if wanted else 0):
            said = self._service.get("/v1/openapi.json", patiently=True)
            if said["info"]["version"] == wanted:
                runs = Text(N_("Agent {version} runs, and is on trial."), {"version": wanted})
                return replace(answer, words=[*answer.words[:1], runs])
            sleep(LOOK_S)
        return answer

    def import_bundle(self, file: Path, *, dry_run: bool) -> Answer:
        """See :class:`SiteClient`; the service takes a file from the tray alone."""
        from ncen_updater.agent.storage.inbox import laid_down

        self.require_right("operate")
        tray = Path(str(self.request("GET /v1/tray")["directory"]))
        with self._run.progress() as progress, laid_down(tray, file, progress) as remove:
            answer = self.order("import", file=file.name, dry_run=dry_run)
            if answer.document.get("ended") is False:
                remove.clear()  # it still needs it
                text = N_("What was copied stays in {path} until you remove it.")
                self._run.say(Text(text, {"path": tray}))
        return answer

    def approve_back(self, seen: Document, accept_loss: int | None = None) -> None:
        form = {"binding": seen["binding"], "of": "rollback", "accept_loss": accept_loss or None}
        self.request("POST /v1/approvals", **form)

    def order(self, kind: str, **data: object) -> Answer:
        """Give an order, show its progress until it has ended, and return what it came to.

        Ctrl-C ends the looking only.

        Raises:
            UpdaterError: If it is refused, or the service goes away for good.
            OrderTorn: If the service was killed meanwhile.
        """
        given = self.request("POST /v1/orders", kind=kind, language=self._run.language, **data)
        number = given["id"]
        try:
            with self._run.progress() as progress:
                self._follow(kind, given, progress)
        except KeyboardInterrupt:
            text = N_("The service goes on with order {order}; 'ncen-updater watch' follows it.")
            self._run.say(Text(text, {"order": number}))
            return Answer({"order": number, "ended": False})
        ended = self._service.get(f"/v1/orders/{number}", patiently=True)
        return came_to(number, ended["result"])

    def _follow(self, kind: str, given: Document, progress: Progress) -> None:
        """Show the progress of an order until it has ended."""
        number = given["id"]
        waits: Text | None = None
        try:
            for event in self._service.stream(given["event"]):
                if event.kind == "order-ended" and event.data["data"].get("order") == number:
                    return
                if event.kind != "service":
                    continue
                # An order to go back ends the watching of a release, and waits for nothing.
                if kind != "rollback" and not _begun(event.data, given["at"]):
                    waits = waits or self._waits(given["at"])
                if waits is not None and not _begun(event.data, given["at"]):
                    progress.tell(waits)
                elif not decided_before(event.data, given["at"]):
                    tell(progress, event.data)
        except UpdaterError as error:
            if error.code != TOO_MANY_STREAMS.code:
                raise
        # Pages of this person listen already, as many as may: it is asked instead.
        while self._service.get(f"/v1/orders/{number}", patiently=True)["ended_at"] is None:
            tell(progress, self.status()["service"])
            sleep(LOOK_S)

    def _waits(self, ordered_at: str) -> Text | None:
        """Say what an order waits for: the release that is watched, or whatever is at work."""
        seen = self.status()
        if _begun(seen["service"], ordered_at):
            return None
        return order_waits(seen, self._run.zone)

    def inspect(self, kind: str, **data: object) -> Answer:
        """Have something looked at, show its progress, and return what was found.

        Raises:
            UpdaterError: If it is refused, or came to no result.
        """
        form = {"kind": kind, "language": self._run.language, **data}
        number = self.request("POST /v1/inspections", **form)["id"]
        with self._run.progress() as progress:
            while True:
                seen = self._service.get(f"/v1/inspections/{number}?wait={INSPECT_WAIT_S}")
                if seen["result"] is not None:
                    return came_to(number, seen["result"])
                told = ProgressUpdate.from_json(seen["progress"])
                if told is not None:
                    progress.tell(told.text, told.done, told.total)


def _values_tried(journal: Journal, way: RollbackPlan) -> TriedValues | None:
    """What the newest rehearsal of an upgrade saw of values when it went back; None without."""
    wanted = (str(way.target), str(way.origin))
    for record in Rehearsals(journal).all():
        for hop in record.report.hops if record.report is not None else ():
            if hop.way == wanted:
                return hop.values
    return None


def came_to(number: int, result: object) -> Answer:
    """Return what an order came to.

    Raises:
        OrderTorn: If the service, or what worked for it, was killed meanwhile.
    """
    document = result.get("document") if isinstance(result, dict) else None
    if not isinstance(result, dict) or result.get("exit_code") is None or not document:
        raise UpdaterError(ORDER_TORN, order=number)
    known = frozenset(ExitCode)
    code = ExitCode(result["exit_code"]) if result["exit_code"] in known else ExitCode.ERROR
    error = document.get("error")
    return Answer(
        {key: value for key, value in document.items() if key != "words"},
        [str(line) for line in document.get("words", ())],
        code,
        refusal({**error, "exit_code": int(code)}) if isinstance(error, dict) else None,
    )


def service_for(run: AgentSession) -> Client | None:
    """Return the service of the site; None where a command has to work alone.

    It does so where it is told to, where nothing listens, and where the service may not be spoken
    with: then the rights on the files decide, as without a service.
    """
    path = service_socket(run.config)
    try:
        if run.alone or not path.is_socket():
            return None
    except OSError:  # a directory that may not be entered
        return None
    from ncen_updater.agent.service.client import Client

    client = Client(path, run.language)
    return client if client.reachable() else None


def seen_by_unit(run: AgentSession, progress: Progress) -> Answer | None:
    """Return what the unit that works on the site finds there; None where no unit does.

    What root may write, read and reach is not what the unit may, and the unit does the work. It
    waits at its socket, whether the service runs or not.
    """
    from ncen_updater.agent.config.loader import load_config
    from ncen_updater.agent.service.inspecting import LIMITS_S, MAX_INSPECTED, InspectionKind
    from ncen_updater.agent.service.runner import WorkRunner
    from ncen_updater.agent.service.snapshot import ServiceSnapshots

    try:
        config = load_config(run.config, look=False)
    except ConfigError:
        return None  # the look from here says so
    socket = config.paths.resolve(config.service.apply_socket)
    if run.alone or config.service.runner != "systemd" or not socket.is_socket():
        return None
    watcher = ServiceSnapshots(config.service, lambda: datetime.now(UTC))
    done = WorkRunner(run.config, socket, lambda: None, lambda: False, watcher).inspect(
        ("doctor", "--lang", run.language), lambda told: progress.tell(told.text), lambda: False,
        seconds=LIMITS_S[InspectionKind.FINDINGS], most=MAX_INSPECTED,
    )  # fmt: skip
    return came_to(0, vars(done))


def require_service(run: AgentSession) -> Client:
    """Return the service of the site.

    Raises:
        NoService: If none answers.
    """
    client = service_for(run)
    if client is None:
        raise UpdaterError(NO_SERVICE, path=service_socket(run.config))
    return client


def _begun(moment: Document, ordered_at: str) -> bool:
    """Whether the service is at what it began after an order was given. Pure."""
    running = moment.get("running")
    if running is None:
        return False
    return datetime.fromisoformat(running["since"]) >= datetime.fromisoformat(ordered_at)


def decided_before(moment: Document, ordered_at: str) -> bool:
    """Whether what the service says was decided before it knew of an order. Pure."""
    looked_at = moment["looked_at"]
    if moment["running"] is not None or looked_at is None:
        return False
    return datetime.fromisoformat(looked_at) < datetime.fromisoformat(ordered_at)


def order_waits(seen: Document, zone: tzinfo | None) -> Text | None:
    """Say what an order that was not begun waits for; None where nothing is at work. Pure.

    Args:
        seen: How the site is, as ``status`` has it.
        zone: Zone of the site.
    """
    journal, running = seen["journal"], seen.get("service", {}).get("running")
    change, holder = journal.get("open_change") or {}, journal.get("at_work")
    until = change.get("watched_until")
    if until is not None:
        words = N_(
            "waiting until {version} is watched no longer: {until} ('ncen-updater confirm' ends "
            "that at once)"
        )
        at = format_time(datetime.fromisoformat(until), zone)
        return Text(words, {"version": change["to"], "until": at})
    if running is None and holder is None:
        return None
    name = running["words"][0] if running else str(holder).partition(", process ")[0]
    words = N_("waiting until this has ended: {what}")
    return Text(words, {"what": deed_words(str(name))})


def tell(progress: Progress, moment: Document) -> None:
    """Show what the service does at this moment."""
    for what, done, total in work_now(moment):
        progress.tell(what, done, total)


def work_now(moment: Document) -> Iterator[tuple[Text, int | None, int | None]]:
    """Say what the service does at this moment, with figures, or why it does nothing."""
    running = moment.get("running")
    if running is None:
        if moment.get("why"):
            yield Text("{why}", {"why": moment["why"]}), None, None
        return
    told = ProgressUpdate.from_json(running.get("progress"))
    if told is None:
        yield deed_words(str(running["words"][0])), None, None
    else:
        yield told.text, told.done, told.total
