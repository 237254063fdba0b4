"""``accept-restore``: two people say that the databases were restored from a backup on purpose."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ncen_updater.agent.cli.common import agent_session, plain_reason
from ncen_updater.agent.cli.person import person
from ncen_updater.common.cli.arguments import parse_version
from ncen_updater.common.cli.lazy import Command
from ncen_updater.common.cli.usage import Misuse
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import ExitCode

if TYPE_CHECKING:
    from ncen_updater.agent.cli.session import AgentSession
    from ncen_updater.agent.engine.accept_restore import Restored
    from ncen_updater.agent.engine.approvals.model import ApprovalCount


@click.command(
    "accept-restore",
    cls=Command,
    help=N_("Take databases that were restored from a backup as those of a release."),
)
@click.argument("version")
@click.option("--reason", metavar="TEXT", help=N_("Why, for the journal; each of the two says it."))
@click.option("--yes", is_flag=True, help=N_("Do not ask. Nothing that blocks is passed over."))
@click.option("--dry-run", is_flag=True, help=N_("Say what would be done, and change nothing."))
@click.pass_context
def accept_restore(
    context: click.Context, version: str, reason: str | None, yes: bool, dry_run: bool
) -> ExitCode:
    from ncen_updater.agent.engine import accept_restore as accepting
    from ncen_updater.agent.engine.operations import Operations

    session = agent_session(context)
    if reason is None and not dry_run:
        raise Misuse(N_("say why: --reason TEXT"), context)
    why = "" if reason is None else plain_reason(reason, context)
    release = parse_version(version)
    assert release is not None, "the argument is required"  # noqa: S101
    site = session.open_site()
    with session.progress() as progress:
        operations = Operations(site, progress)
        progress.tell(Text(N_("looking at the restored databases")))
        with operations.reading() as journal:
            found = accepting.find(site, journal, release, progress)
    _tell(session, found)
    if dry_run:
        return _finish(session, found, found.people, taken=False, code=ExitCode.OK)
    values = {"version": release}
    session.agree(
        Text(N_("Were these databases restored on purpose, and belong to {version}?"), values),
        yes=yes,
    )
    with session.progress() as progress:
        operations = Operations(site, progress)
        with operations.alone("accept-restore") as journal:
            found = accepting.find(site, journal, release, progress)
            people = accepting.agree(journal, found, person(), why)
            if people:
                accepting.accept(site, journal, found, people, progress=progress)
    if not people:
        words = N_("Written down. {count} more people have to say the same with this command.")
        session.show(Text(words, {"count": people.missing}))
        return _finish(session, found, people, taken=False, code=ExitCode.APPROVAL_MISSING)
    session.show(Text(N_("The databases are those of {version} from now on."), values))
    session.show(Text(N_("Run 'ncen-updater doctor', and start the application if it is stopped.")))
    return _finish(session, found, people, taken=True, code=ExitCode.OK)


def _tell(session: AgentSession, found: Restored) -> None:
    values: dict[str, object] = {"version": found.release, "current": found.current or "-"}
    session.show(Text(N_("The databases are to be taken as those of {version}."), values))
    for name in found.unproved:
        words = N_("Whether {database} is of this release cannot be seen; you vouch for it.")
        session.show(Text(words, {"database": name}))
    if found.switches:
        session.show(Text(N_("The code of {version} takes the place of {current}."), values))
    if found.closes is not None:
        change = {"change": found.closes.id, "version": found.closes.to_version}
        session.show(Text(N_("The change {change} to {version} ends as undone."), change))
    for approval in found.people.given:
        said = {"who": approval.who, "reason": found.reasons.get(approval.who)}
        words = N_("{who} has said so already: {reason}")
        if said["reason"] is None:
            words = N_("{who} has said so already.")
        session.show(Text(words, said))


def _finish(
    session: AgentSession, found: Restored, people: ApprovalCount, *, taken: bool, code: ExitCode
) -> ExitCode:
    session.finish(
        {
            "release": found.release,
            "current": found.current,
            "switches": found.switches,
            "unproved": list(found.unproved),
            "closes": found.closes.id if found.closes else None,
            "people": [approval.who for approval in people.given],
            "reasons": [found.reasons.get(approval.who) for approval in people.given],
            "missing": people.missing,
            "taken": taken,
        }
    )
    return code
