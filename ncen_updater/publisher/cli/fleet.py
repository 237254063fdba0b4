"""``fleet``: receipts of the sites: import, confirm, and show them on a board."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from ncen_updater.common import atomic_files
from ncen_updater.common.cli.lazy import LazyGroup, make_command_table, make_global_options
from ncen_updater.common.cli.program import get_invoking_user
from ncen_updater.common.cli.render import encode_as_words, parse_digest
from ncen_updater.common.cli.session import CliSession
from ncen_updater.common.cli.usage import CommandUsageError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.formats.receipt import compute_fingerprint
from ncen_updater.publisher.cli.options import (
    DIRECTORY_PATH,
    FILE_PATH,
    feed_option,
    get_time,
    publisher_command,
    record_option,
    show_result,
    yes_option,
)
from ncen_updater.publisher.distribute.emergency_halts import read_rollouts
from ncen_updater.publisher.feed.feed_directory import FeedDirectory
from ncen_updater.publisher.fleet.board import MARKS, build_board, render_board
from ncen_updater.publisher.fleet.releases import read_regions
from ncen_updater.publisher.fleet.store import (
    REFUSED_DIRECTORY,
    FleetStore,
    read_release_digests,
    remove_refused,
)

COMMANDS = make_command_table(
    "ncen_updater.publisher.cli",
    {
        "import": ("fleet", N_("Import receipts from a directory")),
        "confirm": ("fleet", N_("Confirm the key of a site by its fingerprint")),
        "forget": ("fleet", N_("Ask, then remove everything that a site reported")),
        "board": ("fleet", N_("Write the board as web pages")),
    },
)

fleet = LazyGroup(
    "fleet",
    lazy=COMMANDS,
    params=make_global_options(config=False),
    help=N_("Import receipts of the sites and show them on a board"),
)


@publisher_command()
@click.argument(
    "spool", metavar="DIRECTORY", type=click.Path(path_type=Path, file_okay=False, exists=True)
)
@feed_option
@record_option
def import_(session: CliSession, spool: Path, feed: Path, record: Path) -> None:
    releases = read_release_digests(FeedDirectory(feed))
    with FleetStore.open(record) as store:
        found = store.import_spool(spool, releases, get_time().date())
    codes = ", ".join(f"{code}: {count}" for code, count in found.codes.items())
    place = {"path": spool / REFUSED_DIRECTORY, "codes": codes}
    lines = [LazyText(N_("Refused files are in {path} ({codes})"), place)] if codes else []
    for name, error in found.named:
        line = {"code": error.code, "name": name, "text": error.title_text}
        lines.append(LazyText("{code} {name}: {text}", line))
    data = {
        "stored": found.stored, "known": found.known, "refused": found.refused,
        "removed": found.removed, "dropped": found.dropped, "codes": found.codes,
        "refusals": [{"file": name, "code": error.code} for name, error in found.named],
    }  # fmt: skip
    words = N_("Receipts imported: {stored}; already known: {known}; files refused: {refused}")
    show_result(session, data, words, *lines)


@publisher_command()
@click.argument("site", metavar="NAME")
@record_option
@click.option("--key", metavar="WORDS", help=N_("Which key: the words that the site reads out"))
@yes_option
def confirm(session: CliSession, site: str, record: Path, key: str | None, yes: bool) -> None:
    wanted = parse_digest(key or "")
    with FleetStore.open(record, create=False) as store:
        keys = {compute_fingerprint(row.key): row for row in store.list_keys(site)}
        matching = [one for one in keys if one.startswith(wanted)]
        for fingerprint in matching or keys:
            shown = encode_as_words(fingerprint)
            values = {"site": site, "country": keys[fingerprint].country, "fingerprint": shown}
            words = N_("Fingerprint of {site} ({country}): {fingerprint}")
            session.print_message(LazyText(words, values))
        if len(matching) != 1:
            raise CommandUsageError(N_("give --key and all eight words of one of these keys"))
        first, chosen = next(iter(keys)), keys[fingerprint]
        for mark in sorted(chosen.marks):
            session.print_message(LazyText(str(MARKS[mark].state)))
        if keys[first].is_confirmed and first != fingerprint:
            words = N_("This replaces the confirmed key {fingerprint} and removes its receipts.")
            session.print_message(LazyText(words, {"fingerprint": encode_as_words(first)}))
        session.ask_confirmation(
            LazyText(N_("Did the site read out this fingerprint by telephone?")), assume_yes=yes
        )
        store.confirm(site, chosen.key, get_time().date(), get_invoking_user())
    show_result(session, {"site": site, "fingerprint": fingerprint}, N_("Confirmed: {site}"))


@publisher_command()
@click.argument("site", metavar="NAME")
@record_option
@click.option(
    "--spool", type=DIRECTORY_PATH, help=N_("Also remove its refused files below this directory")
)
@yes_option
def forget(session: CliSession, site: str, record: Path, spool: Path | None, yes: bool) -> None:
    with FleetStore.open(record, create=False) as store:
        store.list_keys(site)  # report a mistyped name before the prompt
        session.ask_confirmation(
            LazyText(N_("Remove all receipts of {site}?"), {"site": site}), assume_yes=yes
        )
        count = store.forget(site)
    files = remove_refused(spool, site) if spool is not None else 0
    words = N_("Receipts removed of {site}: {count}; refused files: {files}")
    show_result(session, {"site": site, "count": count, "files": files}, words)


@publisher_command()
@click.argument("output", metavar="DIRECTORY", type=DIRECTORY_PATH)
@record_option
@click.option("--regions", type=FILE_PATH, help=N_("Regions, countries and leaders (regions.toml)"))
@click.option("--feed", type=DIRECTORY_PATH, help=N_("Published feed, to show its waves"))
def board(
    session: CliSession, output: Path, record: Path, regions: Path | None, feed: Path | None
) -> None:
    known = read_regions(regions)
    directory = FeedDirectory(feed) if feed is not None else None
    waivers = directory.list_waivers() if directory else ()
    rollouts = read_rollouts(directory.read_state(), get_time()) if directory else {}
    published = LazyText("FEED") if feed is None else shlex.quote(str(feed))
    with FleetStore.open(record, create=False) as store:
        made = build_board(
            store.list_sites(), known, get_time().date(), rollouts, waivers, store.read_edition(),
            store.list_sums(), (shlex.quote(str(record)), published),
        )  # fmt: skip
        store.write_edition(made.given_back)
    atomic_files.make_directory(output)
    for name, content in render_board(made, session.language).items():
        atomic_files.write_file(output / name, content)
    lines = []
    for item in made.attention:
        contact = LazyText(N_("Contact: {contact}"), item.values)
        more = (item.state, item.remedy_text, contact if str(item.values["contact"]) else None)
        lines += [item.title_text, *(LazyText("  {line}", {"line": one}) for one in more if one)]
    page, attention = output / "index.html", len(made.attention)
    data = {"path": page, "sites": len(made.sites), "attention": attention}
    show_result(session, data, N_("Written: {path} (sites: {sites})"), *lines)
