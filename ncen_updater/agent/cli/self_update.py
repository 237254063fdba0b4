"""``self-update``: renew the agent itself from the feed."""

from __future__ import annotations

import click

from ncen_updater.agent.cli.common import agent_session
from ncen_updater.common.cli.arguments import parse_version
from ncen_updater.common.cli.lazy import Command
from ncen_updater.common.cli.program import user_name
from ncen_updater.common.errors import ExitCode
from ncen_updater.common.i18n import N_, Text

__all__ = ["self_update"]


@click.command("self-update", cls=Command, help=N_("Renew the agent itself."))
@click.argument("version", required=False)
@click.option("--retry", is_flag=True, help=N_("Take agents too that were given up here."))
@click.option("--dry-run", is_flag=True, help=N_("Say what would be done, and change nothing."))
@click.pass_context
def self_update(
    context: click.Context, version: str | None, retry: bool, dry_run: bool
) -> ExitCode:
    from ncen_updater.agent.self_update.renewing import agent_directory, agent_source, renew
    from ncen_updater.agent.self_update.slots import AgentSlots

    session = agent_session(context)
    target = parse_version(version)
    site = session.open_site()
    with session.progress() as progress:
        progress.tell(Text(N_("reading the signed list of agents")))
        done = renew(
            site,
            agent_source(site, session.config),
            AgentSlots(agent_directory(site)),
            progress,
            by=user_name(),
            target=target,
            retry=retry,
            dry_run=dry_run,
        )
    values = {"origin": done.origin, "version": done.version}
    if done.version is None:
        session.show(Text(N_("Agent {origin} is the newest for this site."), values))
    elif done.chosen:
        session.show(Text(N_("Agent {version} was chosen in place of {origin}."), values))
        session.show(Text(N_("It is on trial; it starts when the service starts again.")))
    else:
        session.show(Text(N_("Agent {version} would take the place of {origin}."), values))
    session.finish({"from": done.origin, "to": done.version, "chosen": done.chosen})
    return ExitCode.OK
