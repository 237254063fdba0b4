"""``publish``, ``refresh``, ``status``, ``upload``: the feed and its online roles."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import click

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.cli.characters import strip_control_characters
from ncen_updater.common.cli.render import format_date, format_table
from ncen_updater.common.cli.session import CliSession
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.publisher.cli.options import (
    DIRECTORY_PATH,
    OnlineKeyFiles,
    PassphraseSource,
    get_time,
    online_options,
    passphrase_options,
    publisher_command,
    record_option,
    require_words,
    show_line,
    show_result,
)
from ncen_updater.publisher.distribute.emergency_halts import (
    EmergencyHaltStatus,
    list_active_halts,
    read_emergency_halts,
)
from ncen_updater.publisher.distribute.feed_status import (
    ReleaseStatus,
    RoleStatus,
    SignedMetadata,
    list_signing_history,
    read_feed_status,
)
from ncen_updater.publisher.distribute.feed_upload import open_storage, upload_feed
from ncen_updater.publisher.distribute.publishing import Publisher
from ncen_updater.publisher.feed.feed_directory import FeedDirectory
from ncen_updater.publisher.fleet.releases import check_publish_conditions
from ncen_updater.publisher.signing.signing_event import SigningEvent
from ncen_updater.publisher.signing.value_format import format_schedule, format_signed_time

WAIVER_SENTENCE = N_(
    "{product} {version} was published on {day} before enough countries had reported"
    " ({reached}; needed: {count}). Reason: {reason}"
)


@publisher_command()
@click.argument("feed", type=DIRECTORY_PATH)
@click.option("--event", type=DIRECTORY_PATH, required=True, help=N_("Signed event"))
@click.option(
    "--staging", type=DIRECTORY_PATH, multiple=True, help=N_("Directory of the built targets")
)
@click.option(
    "--accept-interruption",
    is_flag=True,
    help=N_("For lost or stolen keys; clients that update meanwhile fail once"),
)
@record_option
@click.option(
    "--waive",
    metavar="TEXT",
    callback=require_words,
    help=N_("Publish although receipts are missing, and record why"),
)
@online_options(required=True)
@passphrase_options
def publish(
    session: CliSession,
    feed: Path,
    event: Path,
    staging: tuple[Path, ...],
    accept_interruption: bool,
    record: Path,
    waive: str | None,
    online: OnlineKeyFiles,
    passphrases: PassphraseSource,
) -> None:
    loaded = SigningEvent.load(event)
    waivers = check_publish_conditions(loaded, record, waive)
    signers = online.open(passphrases.make_prompt(session))
    with session.make_progress() as progress, durable.make_world_readable():
        done = Publisher(FeedDirectory(feed), get_time, progress=progress).publish_event(
            loaded, staging, signers, accept_interruption, waivers
        )
    show_result(session, dataclasses.asdict(done), N_("Published: {new_roles}"), *done.new_targets)


@publisher_command()
@click.argument("feed", type=DIRECTORY_PATH)
@online_options(required=True)
@passphrase_options
def refresh(
    session: CliSession,
    feed: Path,
    online: OnlineKeyFiles,
    passphrases: PassphraseSource,
) -> None:
    signers = online.open(passphrases.make_prompt(session))
    with durable.make_world_readable():
        done = Publisher(FeedDirectory(feed), get_time).refresh_online_roles(signers)
    due = N_("Signed again: {new_roles}") if done.new_roles else N_("Nothing to refresh.")
    show_result(session, dataclasses.asdict(done), due)


@publisher_command()
@click.argument("feed", type=DIRECTORY_PATH)
@click.option(
    "--signing-history",
    "signed",
    is_flag=True,
    help=N_("List who signed each published version of the metadata, newest first"),
)
def status(session: CliSession, feed: Path, signed: bool) -> None:
    if signed:
        lists = list_signing_history(FeedDirectory(feed))
        waivers = FeedDirectory(feed).list_waivers()
        for line in format_table(_format_signing_history(session, lists), session.language):
            show_line(session, line)
        for day, waiver in waivers:
            show_line(
                session, LazyText(WAIVER_SENTENCE, {"day": format_date(day), **waiver.model_dump()})
            )
        session.write_output({
            "metadata": [dataclasses.asdict(one) for one in lists],
            "waivers": [{"day": day.isoformat(), **one.model_dump()} for day, one in waivers],
        })  # fmt: skip
        return
    state, moment = FeedDirectory(feed).read_state(), get_time()
    roles, releases = read_feed_status(state, moment)
    halts = list_active_halts(read_emergency_halts(state), moment)
    for line in format_table(_format_roles(session, roles), session.language):
        show_line(session, line)
    show_line(session, "")
    if not releases:
        show_line(session, LazyText(N_("No releases in the feed.")))
    rows = _format_releases(session, releases) if releases else []
    for line in format_table(rows, session.language):
        show_line(session, line)
    for release in releases:
        if release.waves:
            words = N_("Waves of {product} {version}: {schedule}")
            schedule = format_schedule(list(release.waves))
            values = {"product": release.product, "version": release.version}
            show_line(session, LazyText(words, {**values, "schedule": schedule}))
    for halt in halts:
        show_line(session, format_emergency_halt(halt))
    session.write_output(
        {
            "emergency_halts": [dataclasses.asdict(halt) for halt in halts],
            "roles": [dataclasses.asdict(role) for role in roles],
            "releases": [dataclasses.asdict(release) for release in releases],
        }
    )


def format_emergency_halt(halt: EmergencyHaltStatus) -> LazyText:
    """Return a line that describes an emergency halt."""
    words = N_("Emergency halt of {product} {version} by {owner} until {until}: {reason}")
    return LazyText(words, {**dataclasses.asdict(halt), "until": format_signed_time(halt.until)})


def _format_roles(session: CliSession, roles: Sequence[RoleStatus]) -> list[list[str]]:
    heads = (
        N_("role"), N_("version"), N_("signatures"), N_("expires"), N_("days left"),
        N_("can be signed by"),
    )  # fmt: skip
    rows = [[session.translate(head) for head in heads]]
    for role in roles:
        due = session.translate(N_("renewal due")) if role.due else ""
        left = session.translate(N_("expired")) if role.days_left < 0 else str(role.days_left)
        count = session.translate(N_("{done} of {total}"), done=role.signed, total=role.threshold)
        rows.append(
            [
                role.role,
                str(role.version),
                count,
                format_date(datetime.fromisoformat(role.expires)),
                f"{left}  {due}".rstrip(),
                ", ".join(role.holders),
            ]
        )
    return rows


def _format_signing_history(
    session: CliSession, lists: Sequence[SignedMetadata]
) -> list[list[str]]:
    heads = (N_("role"), N_("version"), N_("drafted"), N_("signed by"))
    rows = [[session.translate(head) for head in heads]]
    for one in lists:
        day = format_date(datetime.fromisoformat(one.drafted)) if one.drafted else "-"
        rows.append([one.role, str(one.version), day, ", ".join(one.signed) or "-"])
    return rows


def _format_releases(session: CliSession, releases: Sequence[ReleaseStatus]) -> list[list[str]]:
    heads = (
        N_("product"), N_("version"), N_("channel"), N_("countries"), N_("required"), N_("state"),
    )  # fmt: skip
    rows = [[session.translate(head) for head in heads]]
    for release in releases:
        state = ""
        if release.withdrawn:
            state = session.translate(N_("withdrawn: {reason}"), reason=release.withdrawn)
        elif release.halted:
            state = session.translate(N_("halted: {reason}"), reason=release.halted)
        rows.append(
            [
                release.product,
                release.version,
                release.channel,
                ", ".join(release.countries) or session.translate(N_("all")),
                session.translate(N_("yes")) if release.required else "",
                strip_control_characters(state),
            ]
        )
    return rows


@publisher_command(N_("Upload FEED to PLACE: a directory or s3://BUCKET/PREFIX"))
@click.argument("feed", type=DIRECTORY_PATH)
@click.argument("place")
@click.option("--endpoint", help=N_("Endpoint URL of an object store other than Amazon S3"))
@click.option(
    "--accept-interruption",
    is_flag=True,
    help=N_("For lost or stolen keys; clients that update meanwhile fail once"),
)
def upload(
    session: CliSession,
    feed: Path,
    place: str,
    endpoint: str | None,
    accept_interruption: bool,
) -> None:
    with session.make_progress() as progress, durable.make_world_readable():
        done = upload_feed(
            FeedDirectory(feed), open_storage(place, endpoint), progress, accept_interruption
        )
    show_result(
        session,
        {"place": place, **dataclasses.asdict(done)},
        N_("{place} serves timestamp {timestamp}; {unchanged} files already uploaded"),
        *done.written,
    )
