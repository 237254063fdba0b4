"""``adopt``: take over a site whose release was installed by hand."""

from __future__ import annotations

import click

from ncen_updater.cli.commands.common import JOURNAL, agent_session, parse_version
from ncen_updater.cli.lazy import Command
from ncen_updater.errors import ExitCode
from ncen_updater.i18n import N_, Text

__all__ = ["adopt"]


@click.command("adopt", cls=Command, help=N_("Take over a site that was installed by hand."))
@click.argument("version")
@click.pass_context
def adopt(context: click.Context, version: str) -> ExitCode:
    from ncen_updater.upgrade import adopting

    session = agent_session(context)
    release = parse_version(version)
    assert release is not None, "the argument is required"  # noqa: S101
    site = session.open_site()
    session.adopting = not (site.state / JOURNAL).exists()
    with session.progress() as progress:
        progress.tell(Text(N_("taking over the site")))
        adopting.adopt(site, release, progress)
    product = site.config.site.product
    values = {"product": product, "version": release}
    session.show(Text(N_("The site was taken over with {product} {version}."), values))
    session.finish({"adopted": True, "product": product, "version": release})
    return ExitCode.OK
