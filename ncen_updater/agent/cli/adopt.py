"""``adopt``: take over a site whose release was installed by hand."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from ncen_updater.agent.cli.common import agent_session
from ncen_updater.common.cli.arguments import parse_version
from ncen_updater.common.cli.errors import NOTHING_CHANGED
from ncen_updater.common.cli.lazy import Command
from ncen_updater.common.cli.render import finding_document, finding_lines
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import DECLINED, ExitCode

if TYPE_CHECKING:
    from ncen_updater.agent.cli.session import AgentSession
    from ncen_updater.agent.engine.adopt import Adoption
    from ncen_updater.agent.engine.site import Site


@click.command("adopt", cls=Command, help=N_("Take over a site that was installed by hand."))
@click.argument("version")
@click.option("--dry-run", is_flag=True, help=N_("Say what would be done, and change nothing."))
@click.option(
    "--application-is-down",
    "vouched",
    is_flag=True,
    help=N_("The application cannot say its release now: you looked, and VERSION is installed."),
)
@click.pass_context
def adopt(context: click.Context, version: str, dry_run: bool, vouched: bool) -> ExitCode:
    from ncen_updater.agent.engine import adopt as adopting
    from ncen_updater.agent.model.names import JOURNAL

    session = agent_session(context)
    release = parse_version(version)
    assert release is not None, "the argument is required"  # noqa: S101
    site = session.open_site()
    session.adopting = not (site.state / JOURNAL).exists()
    with session.progress() as progress:
        progress.tell(Text(N_("reading the signed list")))
        found = adopting.look(site, release, progress)
    for line in found.installed.lines(found.version):
        session.show(line)
    for note in finding_lines(found.findings, session.language):
        session.show(note)
    if not vouched and not dry_run and not found.installed.said.version:
        adopting.require_agreement(found, vouched=True)  # else there is nothing to ask about
        vouched = _vouches(session, found)
    if dry_run:
        # Whether a person will be asked is said, not asked.
        adopting.require_agreement(found, vouched=True)
        return _dry_run(session, site, found)
    adopting.require_agreement(found, vouched=vouched)
    with session.progress() as progress:
        progress.tell(Text(N_("taking over the site")))
        done = adopting.adopt(site, release, progress, vouched=vouched)
    values = {
        "product": site.config.site.product, "version": done.version, "before": done.corrects,
    }  # fmt: skip
    session.show(Text(N_("The site was taken over with {product} {version}."), values))
    if done.corrects is not None:
        session.show(Text(N_("This corrects the adoption of {before}."), values))
    words = N_("Next: let the application's unit start {link}, then 'sudo ncen-updater doctor'.")
    session.show(Text(words, {"link": site.slots.link}))
    session.finish(
        {"adopted": True, "product": values["product"], **_document(done, session.language)}
    )
    return ExitCode.OK


def _vouches(session: AgentSession, found: Adoption) -> bool:
    """Ask a person in place of the application; the version is typed again, a yes is too quick.

    Raises:
        Declined: If another one is typed.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    for line in found.installed.lines(found.version):
        session.say(line)
    words = N_("Look in its directory. Which release is installed? Type its version")
    answer = str(click.prompt(session.text(words), err=True)).strip()
    typed = parse_version(answer)
    if typed != found.version:
        raise UpdaterError(DECLINED, state=NOTHING_CHANGED)
    return True


def _document(found: Adoption, language: str) -> dict[str, object]:
    seen = found.installed
    return {
        "version": found.version,
        "corrects": found.corrects,
        "application": seen.said.version or None,
        "checks": [
            {"database": i.database, "name": i.name, "holds": i.holds} for i in seen.asked
        ],
        "findings": [finding_document(finding, language) for finding in found.findings],
    }  # fmt: skip


def _dry_run(session: AgentSession, site: Site, found: Adoption) -> ExitCode:
    values = {"product": site.config.site.product, "version": found.version, "slot": found.slot}
    if not found.installed.said.version:
        session.show(
            Text(N_("'adopt' will ask you to type the version, or wants --application-is-down."))
        )
    session.show(Text(N_("{product} {version} is on the signed list."), values))
    session.show(
        Text(
            N_("The directory {slot} would be compared with what was signed and made the slot.")
            if found.in_place
            else N_("The slot of the release would be built in {slot}."),
            values,
        )
    )
    if found.switches:
        session.show(Text(N_("'current' would be made to lead there."), values))
    session.show(Text(N_("Ledgers and a journal would be made; no record would be touched.")))
    looked = {**_document(found, session.language), "in_place": found.in_place}
    session.finish({"adopted": False, **values, **looked, "switches": found.switches})
    return ExitCode.OK
