"""``export``: create a bundle for offline sites."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import click

from ncen_updater.common.cli.render import format_bytes, format_scheduled_time
from ncen_updater.common.cli.session import CliSession
from ncen_updater.common.cli.usage import CommandUsageError, parse_version
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.formats.manifest import Channel
from ncen_updater.publisher.cli.options import (
    DIRECTORY_PATH,
    choose_product,
    get_time,
    product_option,
    publisher_command,
    show_line,
)
from ncen_updater.publisher.distribute.bundle_export import (
    ExportRequest,
    ExportSite,
    export_bundle,
)
from ncen_updater.publisher.feed.feed_directory import FeedDirectory


def parse_site(text: str) -> tuple[str, str]:
    """Parse ``COUNTRY/SITE``.

    Raises:
        CommandUsageError: If the text has another form.
    """
    found = re.fullmatch(r"([A-Z]{2})/([A-Za-z0-9._-]{1,100})", text, re.ASCII)
    if not found:
        words = N_("'{text}': use the form COUNTRY/SITE, such as KE/ke-national")
        raise CommandUsageError(words, hint="--for-site", text=text)
    return found[1], found[2]


@publisher_command()
@click.argument("feed", type=DIRECTORY_PATH)
@click.option(
    "--for-site",
    "sites",
    metavar="COUNTRY/SITE",
    multiple=True,
    required=True,
    help=N_("Country and id of a site, such as KE/ke-national (repeatable)"),
)
@click.option("--from", "origin", metavar="VERSION", required=True, help=N_("Installed release"))
@click.option(
    "--to",
    "target",
    metavar="VERSION",
    help=N_("Target release (default: the newest for these sites)"),
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help=N_("File to write, NAME.ncen"),
)
@product_option
@click.option(
    "--channel",
    type=click.Choice(["stable", "preview"]),
    default="stable",
    help=N_("Channel of the sites (default: stable)"),
)
@click.option(
    "--agent",
    metavar="VERSION",
    help=N_("Version of the agent on the sites (default: this program's)"),
)
@click.option("--archives", is_flag=True, help=N_("Export full archives instead of delta packs"))
@click.option(
    "--with-origin",
    is_flag=True,
    help=N_("Include the installed release too, to adopt a site offline"),
)
@click.option(
    "--with-agent",
    is_flag=True,
    help=N_("Include newer agents for these sites"),
)
def export(
    session: CliSession,
    feed: Path,
    sites: tuple[str, ...],
    origin: str,
    target: str | None,
    output: Path,
    product: str | None,
    channel: str,
    agent: str | None,
    archives: bool,
    with_origin: bool,
    with_agent: bool,
) -> None:
    begin, own = parse_version(origin), parse_version(agent or version("ncen-updater"))
    assert begin is not None, "the option is required"  # noqa: S101
    assert own is not None, "this program has a version"  # noqa: S101
    request = ExportRequest(
        product=choose_product(FeedDirectory(feed).read_state(), product),
        sites=tuple(ExportSite(*parse_site(site)) for site in sites),
        origin=begin,
        target=parse_version(target),
        channel=Channel(channel),
        agent=own,
        archives=archives,
        with_origin=with_origin,
        with_agent=with_agent,
    )
    with session.make_progress() as progress:
        done = export_bundle(
            FeedDirectory(feed),
            request,
            output,
            clock=get_time,
            progress=progress,
        )
    values: dict[str, object] = {
        "path": done.file,
        "size": format_bytes(done.bytes),
        "sites": ", ".join(sites),
        "origin": origin,
        "agent": own,
        "expires_at": format_scheduled_time(done.expires_at),
        "until": format_scheduled_time(done.usable_until),
    }
    show_line(session, LazyText(N_("Written: {path} ({size})"), values))
    show_line(session, LazyText(N_("Tested for {sites}, from {origin}:"), values))
    for release, how in done.releases.items():
        line = N_("{release} (delta pack)") if how == "delta" else N_("{release} (whole archive)")
        show_line(session, LazyText(line, {"release": release}), "  ")
    for release in done.agents:
        show_line(session, LazyText(N_("agent {version}"), {"version": release}), "  ")
    if with_agent and not done.agents:
        show_line(session, LazyText(N_("No agent newer than {agent} for these sites."), values))
    show_line(
        session,
        LazyText(
            N_(
                "Metadata expires on {expires_at}; sites with the default grace period accept it"
                " until {until}."
            ),
            values,
        ),
    )
    session.write_output(
        {
            "file": str(done.file),
            "bytes": done.bytes,
            "releases": done.releases,
            "agents": list(done.agents),
            "expires_at": done.expires_at,
            "usable_until": done.usable_until,
        }
    )
