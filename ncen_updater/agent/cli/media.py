"""``import`` and ``mirror``: releases by media, and a national copy of the feed."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ncen_updater.agent.cli.common import agent_session
from ncen_updater.common.cli.lazy import Command
from ncen_updater.common.cli.render import format_bytes, format_time
from ncen_updater.common.cli.usage import Misuse
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import ExitCode

if TYPE_CHECKING:
    from ncen_updater.agent.adapters.feed_reader.child import ChildSource

FILE = click.Path(path_type=Path, dir_okay=False)


@click.command("import", cls=Command, help=N_("Take releases from the bundle FILE."))
@click.argument("file", metavar="FILE", type=FILE, required=False)
@click.option(
    "--dry-run", is_flag=True, help=N_("Verify the bundle whole, and keep nothing of it.")
)
@click.option(
    "--order",
    type=click.IntRange(min=1),
    metavar="N",
    help=N_("For the service: as whoever gave this order."),
)
@click.pass_context
def import_(
    context: click.Context, file: Path | None, dry_run: bool, order: int | None
) -> ExitCode:
    session = agent_session(context)
    if order is not None and file is None:
        return session.answer(session.local().import_ordered(order, dry_run=dry_run))
    if file is None or order is not None:
        raise Misuse(N_("name a file"), context)
    # Who may write here opens the medium themselves; nothing has to be copied for that.
    return session.answer(session.nearest().import_bundle(file, dry_run=dry_run))


@click.command(
    "mirror",
    cls=Command,
    help=N_("Make or renew a copy of the feed in DIRECTORY, for a web server of this country."),
)
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--from-bundle",
    "file",
    type=FILE,
    help=N_("A bundle in place of the feed."),
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
    file: Path | None,
    keep: int | None,
    dry_run: bool,
) -> ExitCode:
    from ncen_updater.agent.adapters.feed_reader.child import ChildSource
    from ncen_updater.agent.config.loader import load_config

    session = agent_session(context)
    order: dict[str, object] = {
        "act": "mirror",
        "directory": str(directory.absolute()),
        "file": None if file is None else str(file.absolute()),
        "keep": keep,
        "dry_run": dry_run,
    }
    with session.progress() as progress:
        child = ChildSource(load_config(session.config), session.config)
        if not dry_run:
            child.give(directory.absolute())
        report = dict(child.ask(order, progress))
        if not dry_run:
            _require_newest(child, directory.absolute(), from_bundle=file is not None)
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


def _require_newest(child: ChildSource, directory: Path, *, from_bundle: bool) -> None:
    """Refuse a mirror that is older than what was proved here; of an old bundle that is no attack.

    Raises:
        UpdaterError: If it is.
    """
    from ncen_updater.common.messages import MIRROR_OLDER, PROVED_OLDER

    try:
        child.require_mirror(directory)
    except UpdaterError as error:
        if not from_bundle or error.code != PROVED_OLDER.code:
            raise
        role = error.values["role"]
        raise UpdaterError(MIRROR_OLDER, path=directory, role=role) from error
