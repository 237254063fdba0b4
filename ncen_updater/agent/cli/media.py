"""``import`` and ``mirror``: releases by media, and a national copy of the feed."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ncen_updater.agent.cli.common import agent_session
from ncen_updater.common.cli.lazy import Command
from ncen_updater.common.cli.program import user_name
from ncen_updater.common.cli.render import format_bytes, format_time
from ncen_updater.common.errors import ExitCode
from ncen_updater.common.i18n import N_, Text

if TYPE_CHECKING:
    from ncen_updater.agent.cli.session import AgentSession
    from ncen_updater.feed.offline.store import ImportRecord

__all__ = ["import_", "mirror"]

FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(
    "import", cls=Command, help=N_("Take releases from a bundle: one FILE, or all parts of it.")
)
@click.argument("files", metavar="FILE...", type=FILE, nargs=-1, required=True)
@click.option(
    "--dry-run", is_flag=True, help=N_("Verify the bundle whole, and keep nothing of it.")
)
@click.pass_context
def import_(context: click.Context, files: tuple[Path, ...], dry_run: bool) -> ExitCode:
    from ncen_updater.agent.engine.import_bundle import import_bundle
    from ncen_updater.agent.reader.child import ChildSource

    session = agent_session(context)
    site = session.open_site()
    with session.progress() as progress:
        record = import_bundle(
            site,
            ChildSource(site.config, session.config),
            files,
            progress,
            by=user_name(),
            dry_run=dry_run,
        )
    _show_import(session, record, dry_run=dry_run)
    session.finish({"kept": not dry_run, **record.to_json()})
    return ExitCode.OK


def _show_import(session: AgentSession, record: ImportRecord, *, dry_run: bool) -> None:
    values = {
        "product": record.product,
        "releases": ", ".join(record.releases),
        "reaches": record.reaches,
        "until": format_time(record.usable_until, session.zone),
        "agents": ", ".join(record.agents),
        "agent": record.agent,
        "languages": ", ".join(record.languages),
    }
    if record.agents:
        told = (
            N_("The bundle holds agent {agents}.") if dry_run else N_("Imported: agent {agents}.")
        )
        session.show(Text(told, values))
    if record.agent is not None and not dry_run:
        hint = N_("The service renews itself to {agent}; without it: 'ncen-updater self-update'.")
        session.show(Text(hint, values))
    if record.languages:
        told = N_("Imported: signed languages {languages}.")
        if dry_run:
            told = N_("The bundle holds signed languages {languages}.")
        session.show(Text(told, values))
        if not dry_run:
            hint = N_("'ncen-updater translations take LANGUAGE --for VERSION' uses one.")
            session.show(Text(hint))
    if record.agents and not record.releases:
        done = N_("It holds no release of {product}.")
    elif not record.releases:
        done = N_("The bundle is whole and holds newer lists, but no release.")
    elif dry_run:
        done = N_("The bundle is whole and holds {product} {releases}. Nothing was kept.")
    else:
        done = N_("Imported: {product} {releases}.")
    session.show(Text(done, values))
    if record.reaches is not None:
        session.show(Text(N_("It leads from what runs here to {reaches}."), values))
        if not dry_run:
            hint = N_("'ncen-updater plan {reaches}' and 'upgrade {reaches}' need no network now.")
            session.show(Text(hint, values))
    elif record.releases:
        session.show(Text(N_("None of it is newer than what runs here."), values))
    session.show(Text(N_("Its lists may be used until {until}."), values))


@click.command(
    "mirror",
    cls=Command,
    help=N_("Make or renew a copy of the feed in DIRECTORY, for a web server of this country."),
)
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--from-bundle",
    "files",
    type=FILE,
    multiple=True,
    help=N_("A bundle, or one of its parts, in place of the feed; may be given many times."),
)
@click.option(
    "--keep",
    type=click.IntRange(1, 1000),
    metavar="N",
    help=N_("Keep the N newest releases of each product, and every required stop."),
)
@click.option("--dry-run", is_flag=True, help=N_("Say what would be done, and change nothing."))
@click.pass_context
def mirror(
    context: click.Context,
    directory: Path,
    files: tuple[Path, ...],
    keep: int | None,
    dry_run: bool,
) -> ExitCode:
    from ncen_updater.agent.config.loader import load_config
    from ncen_updater.agent.reader.child import ChildSource

    session = agent_session(context)
    order: dict[str, object] = {
        "act": "mirror",
        "directory": str(directory.absolute()),
        "files": [str(file.absolute()) for file in files],
        "keep": keep,
        "dry_run": dry_run,
    }
    with session.progress() as progress:
        child = ChildSource(load_config(session.config), session.config)
        if not dry_run:
            child.give(directory.absolute())
        report = dict(child.ask(order, progress))
        if not dry_run:
            child.require_mirror(directory.absolute())
    releases = report["releases"]
    assert isinstance(releases, dict), "the child's own report"  # noqa: S101
    for product, versions in releases.items():
        shown = {"product": product, "versions": ", ".join(versions) or "-"}
        session.show(Text(N_("{product}: {versions}"), shown))
    until = datetime.fromisoformat(str(report["expires_at"]))
    values = {
        "size": format_bytes(int(str(report["brought"]))),
        "removed": report["removed"],
        "until": format_time(until, session.zone),
    }
    session.show(
        Text(
            N_("{size} would be brought, {removed} files removed.")
            if dry_run
            else N_("{size} were brought, {removed} files removed."),
            values,
        )
    )
    lapse = N_("Its lists lapse {until} for readers without 'mirror_grace_days'; renew it before.")
    session.show(Text(lapse, values))
    session.finish({"directory": str(directory), "changed": not dry_run, **report})
    return ExitCode.OK
