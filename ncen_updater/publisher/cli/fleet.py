"""``fleet``: receipts of the sites: import, confirm, and show them on a board."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from ncen_updater.common import atomic_files
from ncen_updater.common.cli.lazy import (
    LazyGroup,
    PublisherCommand,
    get_session,
    make_command_table,
    make_global_options,
)
from ncen_updater.common.cli.render import encode_as_words, parse_digest
from ncen_updater.common.cli.usage import CommandUsageError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import ExitCode
from ncen_updater.formats.receipt import compute_fingerprint
from ncen_updater.publisher.cli.options import (
    DIRECTORY_PATH,
    FILE_PATH,
    feed_option,
    get_time,
    record_option,
    show_line,
)
from ncen_updater.publisher.feed.feed_directory import FeedDirectory, list_offers
from ncen_updater.publisher.fleet.board import build_board, render_board
from ncen_updater.publisher.fleet.releases import read_regions
from ncen_updater.publisher.fleet.store import FleetStore, read_release_digests, remove_refused

COMMANDS = make_command_table(
    "ncen_updater.publisher.cli",
    {
        "import": ("fleet", N_("Import receipts from a directory")),
        "confirm": ("fleet", N_("Confirm the key of a site by its fingerprint")),
        "forget": ("fleet", N_("Remove everything that a site reported")),
        "board": ("fleet", N_("Write the board as web pages")),
    },
)

fleet = LazyGroup(
    "fleet",
    lazy=COMMANDS,
    params=make_global_options(config=False),
    help=N_("Import receipts of the sites and show them on a board"),
)

yes_option = click.option("--yes", is_flag=True, help=N_("Do not ask"))


@click.command("import", cls=PublisherCommand, help=N_("Import receipts from a directory"))
@click.argument(
    "spool", metavar="DIRECTORY", type=click.Path(path_type=Path, file_okay=False, exists=True)
)
@feed_option
@record_option
@click.pass_context
def import_(context: click.Context, spool: Path, feed: Path, record: Path) -> ExitCode:
    session = get_session(context)
    releases = read_release_digests(FeedDirectory(feed))
    with FleetStore.open(record) as store:
        found = store.import_spool(spool, releases, get_time().date())
    values = {"stored": found.stored, "known": found.known, "refused": found.refused}
    words = N_("Receipts: {stored} imported, {known} known before, {refused} refused")
    show_line(session, LazyText(words, values))
    for code, count in found.codes.items():
        show_line(session, LazyText(N_("{name}: {text}"), {"name": code, "text": count}))
    for name, error in found.named:
        line = {"code": error.code, "name": name, "text": error.title_text}
        show_line(session, LazyText("{code} {name}: {text}", line), "  ")
    session.write_output({
        **values, "removed": found.removed, "dropped": found.dropped, "codes": found.codes,
        "refusals": [{"file": name, "code": error.code} for name, error in found.named],
    })  # fmt: skip
    return ExitCode.OK


@click.command(
    "confirm", cls=PublisherCommand, help=N_("Confirm the key of a site by its fingerprint")
)
@click.argument("site", metavar="NAME")
@record_option
@click.option("--key", metavar="HASH", help=N_("Which key, by its fingerprint"))
@yes_option
@click.pass_context
def confirm(
    context: click.Context, site: str, record: Path, key: str | None, yes: bool
) -> ExitCode:
    session = get_session(context)
    wanted = parse_digest(key or "")
    with FleetStore.open(record, create=False) as store:
        countries = store.list_keys(site)
        keys = {compute_fingerprint(one): one for one in countries}
        matching = [one for one in keys if one.startswith(wanted)]
        for fingerprint in matching or keys:
            shown = encode_as_words(fingerprint)
            values = {"site": site, "country": countries[keys[fingerprint]], "fingerprint": shown}
            words = N_("Fingerprint of {site} ({country}): {fingerprint}")
            session.print_message(LazyText(words, values))
        if len(matching) != 1:
            raise CommandUsageError(N_("--key with the words that the site reads out"))
        confirmed = store.find_confirmed_key(site)
        if confirmed not in (None, keys[matching[0]]):
            old = encode_as_words(compute_fingerprint(str(confirmed)))
            words = N_("This replaces the confirmed key {fingerprint} and removes its receipts.")
            session.print_message(LazyText(words, {"fingerprint": old}))
        session.ask_confirmation(
            LazyText(N_("Did the site read out this fingerprint by telephone?")), assume_yes=yes
        )
        store.confirm(site, keys[fingerprint], get_time().date())
    show_line(session, LazyText(N_("Confirmed: {site}"), {"site": site}))
    session.write_output({"site": site, "fingerprint": fingerprint})
    return ExitCode.OK


@click.command("forget", cls=PublisherCommand, help=N_("Remove everything that a site reported"))
@click.argument("site", metavar="NAME")
@record_option
@click.option(
    "--spool", type=DIRECTORY_PATH, help=N_("Also remove its refused files below this directory")
)
@yes_option
@click.pass_context
def forget(
    context: click.Context, site: str, record: Path, spool: Path | None, yes: bool
) -> ExitCode:
    session = get_session(context)
    with FleetStore.open(record, create=False) as store:
        store.list_keys(site)  # report a mistyped name before the prompt
        session.ask_confirmation(
            LazyText(N_("Remove all receipts of {site}?"), {"site": site}), assume_yes=yes
        )
        count = store.forget(site)
    files = remove_refused(spool, site) if spool is not None else 0
    values = {"site": site, "count": count, "files": files}
    words = N_("Receipts removed of {site}: {count}; refused files: {files}")
    show_line(session, LazyText(words, values))
    session.write_output(values)
    return ExitCode.OK


@click.command("board", cls=PublisherCommand, help=N_("Write the board as web pages"))
@click.argument("output", metavar="DIRECTORY", type=DIRECTORY_PATH)
@record_option
@click.option("--regions", type=FILE_PATH, help=N_("Regions, countries and leaders (regions.toml)"))
@click.option("--feed", type=DIRECTORY_PATH, help=N_("Published feed, to show its waves"))
@click.pass_context
def board(
    context: click.Context, output: Path, record: Path, regions: Path | None, feed: Path | None
) -> ExitCode:
    session = get_session(context)
    known = read_regions(regions)
    directory = FeedDirectory(feed) if feed is not None else None
    waivers = directory.list_waivers() if directory else ()
    signed = directory.read_state().delegated.values() if directory else ()
    offers = [offer for metadata in signed for offer in list_offers(metadata.signed)]
    waves = {(one.product, one.version): one.waves for one in offers if one.waves}
    with FleetStore.open(record, create=False) as store:
        today = get_time().date()
        made = build_board(
            store.list_sites(), known, today, waves, waivers, store.read_edition(),
            store.list_sums(), (shlex.quote(str(record)), shlex.quote(str(feed or "FEED"))),
        )  # fmt: skip
        store.write_edition(made.given_back)
    atomic_files.make_directory(output)
    for name, content in render_board(made, session.language).items():
        atomic_files.write_file(output / name, content)
    values = {"path": output / "index.html", "sites": len(made.sites)}
    show_line(session, LazyText(N_("Written: {path} (sites: {sites})"), values))
    for item in made.attention:
        show_line(session, item.text, "  ")
        if item.command:
            show_line(session, item.command, "    ")
        if item.contact:
            contact = LazyText(N_("Contact: {contact}"), {"contact": item.contact})
            show_line(session, contact, "    ")
    session.write_output({**values, "attention": len(made.attention)})
    return ExitCode.OK
