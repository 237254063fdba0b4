"""``adopt``: take over a site whose release was installed by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ncen_updater.agent.cli.common import agent_session
from ncen_updater.common.cli.arguments import parse_version
from ncen_updater.common.cli.lazy import Command
from ncen_updater.common.errors import ExitCode
from ncen_updater.common.i18n import N_, Text

if TYPE_CHECKING:
    from packaging.version import Version

    from ncen_updater.agent.cli.session import AgentSession
    from ncen_updater.agent.site import Site

__all__ = ["adopt"]


@click.command("adopt", cls=Command, help=N_("Take over a site that was installed by hand."))
@click.argument("version")
@click.option("--dry-run", is_flag=True, help=N_("Say what would be done, and change nothing."))
@click.pass_context
def adopt(context: click.Context, version: str, dry_run: bool) -> ExitCode:
    from ncen_updater.agent.engine import adopt as adopting
    from ncen_updater.agent.journal.names import JOURNAL

    session = agent_session(context)
    release = parse_version(version)
    assert release is not None, "the argument is required"  # noqa: S101
    site = session.open_site()
    session.adopting = not (site.state / JOURNAL).exists()
    if dry_run:
        return _dry_run(session, site, release)
    with session.progress() as progress:
        progress.tell(Text(N_("taking over the site")))
        adopting.adopt(site, release, progress)
    product = site.config.site.product
    values = {"product": product, "version": release}
    session.show(Text(N_("The site was taken over with {product} {version}."), values))
    session.finish({"adopted": True, "product": product, "version": release})
    return ExitCode.OK


def _dry_run(session: AgentSession, site: Site, release: Version) -> ExitCode:
    from ncen_updater.agent.engine.adopt import look

    with session.progress() as progress:
        progress.tell(Text(N_("reading the signed list")))
        found = look(site, release)
    values = {"product": site.config.site.product, "version": release, "slot": found.slot}
    session.show(Text(N_("{product} {version} is on the signed list."), values))
    session.show(
        Text(
            N_("The directory {slot} would be compared with what was signed and made the slot.")
            if found.in_place
            else N_("The release would be downloaded and its slot built in {slot}."),
            values,
        )
    )
    if found.switches:
        session.show(Text(N_("'current' would be made to lead there."), values))
    session.show(Text(N_("Ledgers and a journal would be made; no record would be touched.")))
    session.finish({"adopted": False, **values, "in_place": found.in_place,
                    "switches": found.switches})  # fmt: skip
    return ExitCode.OK
