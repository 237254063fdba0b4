"""Everything that would stand in the way, found before it does. Reads only, and no network."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from ncen_updater.agent.adapters.application.base import Expectation
from ncen_updater.agent.adapters.databases.base import ChangeRef, DatabaseRole
from ncen_updater.agent.config.loader import load_config
from ncen_updater.agent.config.model import AgentConfig
from ncen_updater.agent.config.paths import load_places
from ncen_updater.agent.engine.composition import build_site
from ncen_updater.agent.engine.guard import preflight_findings
from ncen_updater.agent.engine.interrupted import interrupted_copies
from ncen_updater.agent.engine.preflight.door import closed_by_unknown
from ncen_updater.agent.engine.preflight.files import look_at
from ncen_updater.agent.engine.preflight.health import parts_missing, refusals, unusable, unwell
from ncen_updater.agent.engine.rehearsal.store import Rehearsals
from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.model.change import Change
from ncen_updater.agent.model.errors import NOT_ADOPTED, JournalMissing
from ncen_updater.agent.model.facts import NO_FACTS
from ncen_updater.agent.model.ids import new_change_id
from ncen_updater.agent.model.names import JOURNAL
from ncen_updater.agent.policy.availability import AvailabilityState
from ncen_updater.agent.policy.clock import clock_findings
from ncen_updater.agent.policy.deeds import at_work_words
from ncen_updater.agent.reports.diagnostics.groups import group_findings
from ncen_updater.agent.reports.diagnostics.unknown_names import REFUSED, unknown_database
from ncen_updater.agent.reports.diagnostics.verify import Look, not_ended, verify_looks
from ncen_updater.agent.reports.status import SiteStatus, need, or_none, read_status
from ncen_updater.agent.storage.inbox import Tray
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.site_files.keeping import left_by_changes, place_of
from ncen_updater.common.cli.render import format_bytes, format_time
from ncen_updater.common.disk_space import MARGIN_BYTES
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.findings import Finding, Severity
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import DATABASE_UNKNOWN
from ncen_updater.common.progress import Progress

#: As the package has them.
SOCKET, RULES = Path("/run/ncen-updater/login.sock"), Path("/etc/pam.d/ncen-updater")
CONSOLE = "ncen-updater-console"


@dataclass(frozen=True)
class PasswordParts:
    """What there is of it.

    Attributes:
        on: Whether passwords are looked at here.
        rules: Whether the system has rules for that.
        open_to_others: Whether more than the console's user may have passwords looked at.
        groups: In which groups the console's user is, besides its own.
    """

    on: bool
    rules: bool = True
    open_to_others: bool = False
    groups: tuple[str, ...] = ()

    @classmethod
    def here(cls, socket: Path = SOCKET, rules: Path = RULES, console: str = CONSOLE) -> Self:
        """Look at this machine."""
        try:
            found = socket.lstat()
        except OSError:  # it is off, as with the package
            return cls(on=False)
        try:
            number = pwd.getpwnam(console).pw_uid
        except KeyError:
            number = -1
        others = found.st_uid != number or bool(stat.S_IMODE(found.st_mode) & 0o077)
        groups = tuple(sorted(group.gr_name for group in grp.getgrall() if console in group.gr_mem))
        return cls(True, rules.is_file(), others, groups)


def password_findings(parts: PasswordParts) -> Iterator[Finding]:
    """Yield what is missing, or more open than the package has it; pure."""
    if not parts.on:
        return
    if not parts.rules:
        yield Finding(
            "NU-6135",
            Severity.ADVISORY,
            Text(N_("People cannot come to the console by a password: {path} is missing.")
                 , {"path": RULES}),
            Text(N_("Put the file of the package there again.")),
            {"path": str(RULES)},
        )  # fmt: skip
    if parts.open_to_others or parts.groups:
        groups = ", ".join(parts.groups) or "-"
        yield Finding(
            "NU-6136",
            Severity.ADVISORY,
            Text(
                N_("The console behind a password is more than the package makes it: others than "
                   "{user} may use {path}, or that user is in groups ({groups})."),
                {"user": CONSOLE, "path": SOCKET, "groups": groups},
            ),
            Text(
                N_("Let the socket be as the package has it ('systemctl revert "
                   "ncen-updater-login.socket'), and take the user out of the groups.")
            ),
            {"path": str(SOCKET), "groups": groups},
        )  # fmt: skip


#: Facts of a preflight are of a release; a diagnosis has its own.
TOLD = (Severity.STRICT, Severity.ADVISORY)
#: What it is told of the site's snapshot.
PARTS = frozenset({"at_work", "availability", "full_disk", "journal", "signed_at", "view"})
#: Code of the finding that a change is open, which stands first.
OPEN = "NU-6103"
#: Codes of the finding that there is no such owner, and of those that follow from it.
NO_OWNER, OF_NO_OWNER = "NU-4136", frozenset({"NU-4001", "NU-4062", "NU-4153"})
#: Code of the finding that there is no such database, and of those that follow from it.
NO_DATABASE, OF_NO_DATABASE = "NU-4065", frozenset({"NU-4009", "NU-4102", "NU-6102"})
#: What of the preflight a diagnosis says itself.
SAID_HERE = frozenset(f"NU-{number}" for number in (6309, 6310, 6316, 6332, 6336))


def diagnose(config_path: Path, progress: Progress) -> tuple[Finding, ...]:
    """Look at configuration, journal, databases, application, slots and the last list.

    That is what 'verify' looks at, and the preflight of any upgrade, whatever its release. A look
    that fails is a strict finding under the code of its failure, and the others go on. An open
    change comes first, and silences what follows from it.
    """
    try:
        site, places = build_site(load_config(config_path), config_path), load_places(config_path)
    except UpdaterError as error:
        if isinstance(error.__cause__, PermissionError):
            raise  # it is not the site that has something wrong: this user may not look
        return (_from_error(error),)
    status = read_status(places, site.clock.now(), PARTS)
    journal = or_none(status.journal)
    change = journal.change if journal else None
    looks: tuple[Look, ...] = (
        lambda: _lock(status),
        lambda: _open(status, change),
        lambda: _journal(site, progress, change, at_work=not _nobody_at_work(status)),
        lambda: _settings(site.config),
        lambda: _room(status),
        lambda: clock_findings(status.now, need(status.signed_at), site.config.service.zone()),
        lambda: _tray(site),
        lambda: group_findings(site.config, config_path),
        lambda: _files(site),
        lambda: _list(status),
        lambda: password_findings(PasswordParts.here()),
    )
    if change is None and _nobody_at_work(status):
        looks += (
            lambda: _databases(site),
            # Of an upgrade's preflight it is what no release has to be there for.
            site.engine.exposures,
            lambda: _application(site, status),
            lambda: _tools(site),
            lambda: _preflight(site),
        )
    found = _without_consequences(_looked(looks))
    return tuple({(f.code, str(f.what)): f for f in found}.values())


def _without_consequences(found: Iterable[Finding]) -> list[Finding]:
    """Leave out what says in other words that an owner or a database is misspelt; pure.

    Migrations cannot be read as a role that is not there, and the sessions of the right one look
    like those of a stranger. Where a database is missing, the set is not whole and fits no journal.
    """
    findings = [_named(finding) for finding in found]
    codes = {finding.code for finding in findings}
    left_out: frozenset[str] = frozenset()
    if NO_OWNER in codes:
        left_out |= OF_NO_OWNER
    if NO_DATABASE in codes:
        left_out |= OF_NO_DATABASE
    return [finding for finding in findings if finding.code not in left_out]


def _named(finding: Finding) -> Finding:
    """A refusal as what it says: that the server has no such database."""
    detail = finding.figures.get("detail")
    words = detail.render("en") if isinstance(detail, Text) else str(detail or "")
    name = unknown_database(words) if finding.code == REFUSED else None
    return _from_error(UpdaterError(DATABASE_UNKNOWN, database=name)) if name else finding


def _nobody_at_work(status: SiteStatus) -> bool:
    """Whether nobody is at work, so that what is found is not what they are doing."""
    return or_none(status.at_work) is None


def _looked(looks: Iterable[Look]) -> list[Finding]:
    found: list[Finding] = []
    for look in looks:
        try:
            found += look()
        except UpdaterError as error:
            found.append(_from_error(error))
    return found


def _open(status: SiteStatus, change: Change | None) -> Iterator[Finding]:
    """An open change bars every upgrade; who reads this is to do that first, and nothing else."""
    if change is None or not _nobody_at_work(status):
        return
    journal = or_none(status.journal)
    yield not_ended(change, Severity.STRICT, journal.facts if journal else NO_FACTS)


def _settings(config: AgentConfig) -> Iterator[Finding]:
    if config.service.mode == "automatic" and not config.service.windows:
        yield Finding(
            "NU-6129",
            Severity.STRICT,
            Text(N_("The mode is 'automatic', and no window is configured: nothing ever begins.")),
            Text(N_("Add hours to [[service.windows]].")),
        )


def _tools(site: Site) -> Iterator[Finding]:
    if site.config.service.rehearse:
        site.engine.require_programs()
    yield from ()


def _preflight(site: Site) -> Iterator[Finding]:
    """What any upgrade would meet; a release of its own has more to say, in 'plan'."""
    current = site.slots.current()
    if current is None:
        return
    marker = site.engine.marker()
    planned = ChangeRef(
        id=new_change_id(),
        generation=(marker.generation if marker else 0) + 1,
        release=str(current),
        source=None,
    )
    for finding in preflight_findings(site, planned, current):
        if finding.severity in TOLD and finding.code not in SAID_HERE:
            yield finding


def _from_error(error: UpdaterError) -> Finding:
    figures: dict[str, object] = {"detail": error.told} if error.detail else {}
    return Finding(error.code, Severity.STRICT, error.what_text, error.remedy_text, figures)


def _lock(status: SiteStatus) -> Iterator[Finding]:
    holder, journal = need(status.at_work), or_none(status.journal)
    change = journal.change if journal is not None else None
    watched = change.to_version if change is not None and change.committed else None
    if holder is not None:
        yield Finding(
            "NU-6121",
            Severity.INFO,
            at_work_words(holder, watched),
            Text(N_("Wait until it has finished; 'ncen-updater status' says how far it is.")),
        )


def _room(status: SiteStatus) -> Iterator[Finding]:
    """Yield where a disk of the site has no room for what always has to be written."""
    found = or_none(status.full_disk)
    if found is not None:
        state, free = found
        yield Finding(
            "NU-6127",
            Severity.STRICT,
            Text(N_("The disk of {path} is full: {free_bytes} are free."), {
                "path": state, "free_bytes": free,
            }),
            Text(N_("Make room there: at least {needed_bytes}."), {"needed_bytes": MARGIN_BYTES}),
            {"path": str(state), "free": free, "needed": MARGIN_BYTES},
        )  # fmt: skip


def _tray(site: Site) -> Iterator[Finding]:
    """Yield where people who may order cannot lay bundles down, as the package lets them."""
    tray = Tray(site.state)
    packaged = site.config.service.runner == "systemd"
    if not (packaged or os.path.lexists(tray.path)):
        return  # nobody but who works on the site itself
    try:
        tray.require()
    except UpdaterError as error:
        yield Finding(error.code, Severity.ADVISORY, error.what_text, error.remedy_text)


def _journal(
    site: Site, progress: Progress, change: Change | None, *, at_work: bool
) -> Iterator[Finding]:
    if not (site.state / JOURNAL).exists() and site.slots.current() is None:
        yield Finding(JournalMissing.message.code, Severity.INFO, Text(NOT_ADOPTED), Text(""))
        return
    with Journal.open(site.state / JOURNAL, read_only=True) as journal:
        # While a change is open the databases may be closed to everybody, by ourselves.
        looks = verify_looks(site, journal, progress, databases=change is None)
        for finding in _looked(looks):
            if not (change is not None and finding.code == OPEN):
                yield finding
        known = {change.id for change in journal.changes()}
        unknown = closed_by_unknown(site.application, known, site.config.application.door_file)
        yield from unknown
        if not unknown and change is None and site.application.door_closed():
            yield Finding(
                "NU-6122",
                Severity.ADVISORY,
                Text(N_("Officers are kept out although no change is open.")),
                Text(
                    N_("If nobody did that on purpose, remove the file {path}."),
                    {"path": site.config.application.door_file},
                ),
            )
        if change is not None or at_work:
            return  # copies are theirs
        for plan in interrupted_copies(journal):
            yield from site.engine.orphans(plan)
        rehearsed = _of_torn_rehearsals(journal)
        for made_by, role, name in site.engine.leftovers():
            if role is DatabaseRole.CANDIDATE and made_by not in known:
                torn = made_by in rehearsed
                yield Finding(
                    "NU-6123",
                    Severity.ADVISORY,
                    Text(
                        N_("A copy of {database} is left of a rehearsal that was cut off.")
                        if torn
                        else N_(
                            "A copy of {database} is there that no change of this journal made."
                        ),
                        {"database": name},
                    ),
                    Text(
                        N_("'ncen-updater resume' removes it, and so does the next rehearsal.")
                        if torn
                        else N_("If you know where it comes from and nobody needs it, drop it."),
                    ),
                    {"change": made_by},
                )


def _of_torn_rehearsals(journal: Journal) -> frozenset[str | None]:
    """Under which ids rehearsals made copies that nobody removed."""
    torn = Rehearsals(journal).interrupted()
    again = (record.copies.again_id for record in torn if record.copies is not None)
    return frozenset((*(record.id for record in torn), *again))


def _databases(site: Site) -> Iterator[Finding]:
    for facts in site.engine.describe():
        yield Finding(
            "NU-6124",
            Severity.INFO,
            Text(
                N_("Database {database} can be reached: {size}, server {version}."),
                {
                    "database": facts.physical,
                    "size": format_bytes(facts.size_bytes),
                    "version": site.engine.version(),
                },
            ),
            Text(""),
        )
    yield from site.engine.set_aside()


def _application(site: Site, status: SiteStatus) -> Iterator[Finding]:
    problem = site.application.token_problem()
    if problem is not None:
        yield unusable(problem)
    if not site.application.running():
        seen = or_none(status.availability)
        since = seen.since if seen and seen.state is AvailabilityState.NOT_RUNNING else None
        yield Finding(
            "NU-6125",
            Severity.ADVISORY,
            Text(
                N_("The application does not run, since {since}."),
                {"since": format_time(since, site.config.service.zone())},
            )
            if since
            else Text(N_("The application does not run.")),
            Text(N_("Start it, or find out why it stopped, before you upgrade.")),
        )
        return
    yield from parts_missing(site.application)
    current = site.slots.current()
    if current is None or problem is not None:
        return
    health = site.application.health(Expectation(site.slots.reported(current)))
    yield from refusals(health)
    if health.answered and not health and not health.missing and not health.refused:
        # An upgrade may be what it needs; but nobody should read that all is well.
        yield replace(unwell(health), severity=Severity.STRICT, figures={"detail": health.said})
    if not health.answered:
        settings = site.config.application
        yield Finding(
            "NU-6128",
            Severity.STRICT,
            Text(
                N_("The application runs, but nobody answers at {url}."),
                {"url": f"{settings.health_url}{settings.health_path}"},
            ),
            Text(
                N_(
                    "Correct application.health_url, or find out why it does not answer: an "
                    "upgrade would be undone."
                )
            ),
        )


def _files(site: Site) -> Iterator[Finding]:
    for finding in look_at(site.config, {}):
        if finding.severity is not Severity.INFO:
            yield finding
    for item in site.config.files:
        directory = site.config.paths.resolve(item.directory)
        aside, written = left_by_changes(directory)
        values = {"name": item.name, "place": place_of(directory)}
        if aside:
            changes = {**values, "changes": ", ".join(aside)}
            yield Finding(
                "NU-4310",
                Severity.ADVISORY,
                Text(
                    N_(
                        "Of the {name}, what releases added before they were taken back lies aside"
                        " in {place}: changes {changes}."
                    ),
                    changes,
                ),
                Text(N_("Look whether anybody needs it, then remove it by hand.")),
                {"name": item.name, "changes": list(aside)},
            )
        for change in written:
            yield Finding(
                "NU-4311",
                Severity.ADVISORY,
                Text(
                    N_(
                        "Change {change} was undone, but the release had written into some of the"
                        " {name}; that could not be undone."
                    ),
                    {**values, "change": change},
                ),
                Text(
                    N_(
                        "Take the files that {place}/written-{change} names from your backup, then"
                        ' remove that list. Say keep = "copy" for these files before the next'
                        " upgrade."
                    ),
                    {**values, "change": change},
                ),
                {"name": item.name, "change": change},
            )


def _list(status: SiteStatus) -> Iterator[Finding]:
    view = need(status.view)
    if view is None or view.stale(status.now):
        yield Finding(
            "NU-6126",
            Severity.ADVISORY,
            Text(N_("There is no current list of releases.")),
            Text(N_("Run 'ncen-updater check' while the feed can be reached.")),
        )
