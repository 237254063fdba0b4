"""``check``: read and verify the signed list, and say whether there is something for this site."""

from __future__ import annotations

import click

from ncen_updater.agent.cli.common import agent_session, path_document, show_notice, show_path
from ncen_updater.agent.cli.remote import order, service_for, show_document
from ncen_updater.common.cli.lazy import Command
from ncen_updater.common.cli.render import format_time
from ncen_updater.common.errors import ExitCode
from ncen_updater.common.i18n import N_, Text

__all__ = ["check"]


@click.command("check", cls=Command, help=N_("Ask the feed whether an upgrade is available."))
@click.option("--exit-code", is_flag=True, help=N_("Exit with 10 when an upgrade is available."))
@click.pass_context
def check(context: click.Context, exit_code: bool) -> ExitCode:
    session = agent_session(context)
    service = service_for(session)
    if service is not None:
        code, document = order(session, service, "check")
        show_document(session, code, document)
        available = exit_code and code == ExitCode.OK and document.get("available") is True
        return ExitCode.AVAILABLE if available else code
    from ncen_updater.agent.engine.operations import Operations
    from ncen_updater.agent.self_update.renewing import agent_on_offer, refresh_agents
    from ncen_updater.feed.offline.store import read_import

    site = session.open_site()
    with session.progress() as progress:
        progress.tell(Text(N_("reading the signed list")))
        operations = Operations(site, progress)
        path = operations.path()
        operations.look_at_clocks()
        agents_error = refresh_agents(site, session.config)
    agent = agent_on_offer(site, session.config)
    current = str(site.slots.current())
    view = site.source.last_view()
    product = site.config.site.product
    record = read_import(site.config.paths.received_directory)
    by_medium = record is not None and view is not None and view.checked_at == record.imported_at
    if by_medium and record is not None:
        values = {"at": format_time(record.imported_at), "until": format_time(record.usable_until)}
        session.show(
            Text(
                N_("By the lists that were imported at {at}; they may be used until {until}.")
                if site.config.feed.offline
                else N_(
                    "The feed cannot be reached. By the lists that were imported at {at}; they may "
                    "be used until {until}."
                ),
                values,
            )
        )
    show_path(session, product, current, path)
    gone = next((o.withdrawn for o in view.offers if o.version == current), None) if view else None
    if gone is not None:
        show_notice(session, product, current, gone.reason, gone.advice)
    if agent is not None:
        session.show(Text(N_("Agent {version} is on offer: 'self-update'."), {"version": agent}))
    session.finish(
        {
            "product": product,
            "current": current,
            "agent": {"version": agent, "error": agents_error.code if agents_error else None},
            **path_document(path, session.language, current),
            "running_withdrawn": gone.model_dump() if gone else None,
            "imported": by_medium,
            "checked_at": view.checked_at if view else None,
            "expires_at": view.expires_at if view else None,
        }
    )
    return ExitCode.AVAILABLE if exit_code and path else ExitCode.OK
