"""``publish``, ``refresh``, ``status``, ``upload``: the feed itself and its online roles."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.cli.characters import clean
from ncen_updater.common.cli.lazy import PublisherCommand, session_of
from ncen_updater.common.cli.render import format_day, table
from ncen_updater.common.i18n import N_, Text
from ncen_updater.publisher.cli.common import (
    DIRECTORY,
    FILE,
    now,
    passphrase_options,
    passphrases,
    show_line,
    show_result,
)

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

    from ncen_updater.common.cli.session import Session
    from ncen_updater.publisher.feed.brakes import BrakeLine
    from ncen_updater.publisher.feed.status import ReleaseLine, RoleStatus, SignedList


def online_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the keys of the online roles."""
    for role in ("timestamp", "snapshot"):
        words = {
            "snapshot": N_("Private key of snapshot; may be given twice."),
            "timestamp": N_("Private key of timestamp; may be given twice."),
        }[role]
        command = click.option(
            f"--{role}-key", type=FILE, multiple=True, required=True, help=words
        )(command)
    return command


def online_signers(
    ask: Callable[[Path], str], snapshot_key: tuple[Path, ...], timestamp_key: tuple[Path, ...]
) -> dict[str, list[Signer]]:
    """Open the keys of the online roles.

    Args:
        ask: Asks for the passphrase of a key.
        snapshot_key: Its files.
        timestamp_key: Its files.
    """
    from ncen_updater.publisher.signing.keys import open_signer

    return {
        "snapshot": [open_signer(path, ask) for path in snapshot_key],
        "timestamp": [open_signer(path, ask) for path in timestamp_key],
    }


@click.command(
    "publish",
    cls=PublisherCommand,
    help=N_("Publish a signed event to the directory FEED, which any static web server can serve."),
)
@click.argument("feed", type=DIRECTORY)
@click.option("--event", type=DIRECTORY, required=True, help=N_("The signed event."))
@click.option("--staging", type=DIRECTORY, multiple=True, help=N_("Where new targets lie."))
@click.option(
    "--accept-interruption",
    is_flag=True,
    help=N_("For lost or stolen keys; see the guide."),
)
@online_options
@passphrase_options
@click.pass_context
def publish(
    context: click.Context,
    feed: Path,
    event: Path,
    staging: tuple[Path, ...],
    accept_interruption: bool,
    snapshot_key: tuple[Path, ...],
    timestamp_key: tuple[Path, ...],
    passphrase_fd: int | None,
    passphrase_file: Path | None,
) -> None:
    from ncen_updater.publisher.feed.feed import Feed
    from ncen_updater.publisher.feed.publish import Publisher
    from ncen_updater.publisher.signing.event import SigningEvent

    session = session_of(context)
    online = online_signers(
        passphrases(session, passphrase_fd, passphrase_file), snapshot_key, timestamp_key
    )
    with session.progress() as progress, durable.readable_by_all():
        done = Publisher(Feed(feed), now, progress=progress).publish(
            SigningEvent.load(event), staging, online, accept_interruption
        )
    show_result(session, dataclasses.asdict(done), N_("Published: {new_roles}"), *done.new_targets)


@click.command(
    "refresh",
    cls=PublisherCommand,
    help=N_("Sign timestamp and snapshot anew where that is due, so that the feed does not lapse."),
)
@click.argument("feed", type=DIRECTORY)
@online_options
@passphrase_options
@click.pass_context
def refresh(
    context: click.Context,
    feed: Path,
    snapshot_key: tuple[Path, ...],
    timestamp_key: tuple[Path, ...],
    passphrase_fd: int | None,
    passphrase_file: Path | None,
) -> None:
    from ncen_updater.publisher.feed.feed import Feed
    from ncen_updater.publisher.feed.publish import Publisher

    session = session_of(context)
    online = online_signers(
        passphrases(session, passphrase_fd, passphrase_file), snapshot_key, timestamp_key
    )
    with durable.readable_by_all():
        done = Publisher(Feed(feed), now).refresh(online)
    due = N_("Signed anew: {new_roles}") if done.new_roles else N_("Nothing was due.")
    show_result(session, dataclasses.asdict(done), due)


@click.command(
    "status",
    cls=PublisherCommand,
    help=N_("Say what FEED holds, when its roles lapse, and what is withdrawn."),
)
@click.argument("feed", type=DIRECTORY)
@click.option(
    "--minutes",
    "signed",
    is_flag=True,
    help=N_("Say instead who signed each list that was ever published, the newest first."),
)
@click.pass_context
def status(context: click.Context, feed: Path, signed: bool) -> None:
    from ncen_updater.publisher.feed.brakes import brake_lines, carried
    from ncen_updater.publisher.feed.feed import Feed
    from ncen_updater.publisher.feed.status import feed_status, minutes

    session = session_of(context)
    if signed:
        lists = minutes(Feed(feed))
        for line in table(_minutes_rows(session, lists), session.language):
            show_line(session, line)
        session.finish({"lists": [dataclasses.asdict(one) for one in lists]})
        return
    state, moment = Feed(feed).state(), now()
    roles, releases = feed_status(state, moment)
    brakes = brake_lines(carried(state), moment)
    for line in table(_role_rows(session, roles), session.language):
        show_line(session, line)
    show_line(session, "")
    if not releases:
        show_line(session, Text(N_("The feed offers no release yet.")))
    rows = _release_rows(session, releases) if releases else []
    for line in table(rows, session.language):
        show_line(session, line)
    for brake in brakes:
        show_line(session, braked(brake))
    session.finish(
        {
            "brakes": [dataclasses.asdict(brake) for brake in brakes],
            "roles": [dataclasses.asdict(role) for role in roles],
            "releases": [dataclasses.asdict(release) for release in releases],
        }
    )


def braked(brake: BrakeLine) -> Text:
    """Say who brakes what, and until when."""
    from ncen_updater.publisher.signing.value_format import time_words

    words = N_("{product} {version} is braked by {owner} until {until}: {reason}")
    return Text(words, {**dataclasses.asdict(brake), "until": time_words(brake.until)})


def _role_rows(session: Session, roles: Sequence[RoleStatus]) -> list[list[str]]:
    heads = (
        N_("role"), N_("version"), N_("signatures"), N_("valid until"), N_("days left"),
        N_("may be signed by"),
    )  # fmt: skip
    rows = [[session.text(head) for head in heads]]
    for role in roles:
        due = session.text(N_("sign anew")) if role.due else ""
        left = session.text(N_("lapsed")) if role.days_left < 0 else str(role.days_left)
        count = session.text(
            N_("{signed} of {threshold}"), signed=role.signed, threshold=role.threshold
        )
        rows.append(
            [
                role.role,
                str(role.version),
                count,
                format_day(datetime.fromisoformat(role.expires)),
                f"{left}  {due}".rstrip(),
                ", ".join(role.holders),
            ]
        )
    return rows


def _minutes_rows(session: Session, lists: Sequence[SignedList]) -> list[list[str]]:
    heads = (N_("role"), N_("version"), N_("drafted"), N_("signed by"))
    rows = [[session.text(head) for head in heads]]
    for one in lists:
        day = format_day(datetime.fromisoformat(one.drafted)) if one.drafted else "-"
        rows.append([one.role, str(one.version), day, ", ".join(one.signed) or "-"])
    return rows


def _release_rows(session: Session, releases: Sequence[ReleaseLine]) -> list[list[str]]:
    heads = (
        N_("product"), N_("version"), N_("channel"), N_("countries"), N_("required stop"),
        N_("waves"), N_("state"),
    )  # fmt: skip
    rows = [[session.text(head) for head in heads]]
    for release in releases:
        state = ""
        if release.withdrawn:
            state = session.text(N_("withdrawn: {reason}"), reason=release.withdrawn)
        elif release.halted:
            state = session.text(N_("halted: {reason}"), reason=release.halted)
        rows.append(
            [
                release.product,
                release.version,
                release.channel,
                ", ".join(release.countries) or session.text(N_("all")),
                session.text(N_("yes")) if release.required else "",
                str(release.waves or ""),
                clean(state),
            ]
        )
    return rows


@click.command(
    "upload",
    cls=PublisherCommand,
    help=N_(
        "Copy the directory FEED to PLACE, another directory or s3://BUCKET/PREFIX, in an order in "
        "which clients see the old feed or the new one. Run it again after an interruption."
    ),
)
@click.argument("feed", type=DIRECTORY)
@click.argument("place")
@click.option("--endpoint", help=N_("Address of an object store that is not Amazon's."))
@click.option(
    "--accept-interruption",
    is_flag=True,
    help=N_("For lost or stolen keys: clients that ask in between fail once."),
)
@click.pass_context
def upload(
    context: click.Context,
    feed: Path,
    place: str,
    endpoint: str | None,
    accept_interruption: bool,
) -> None:
    from ncen_updater.publisher.distribute.upload import open_place
    from ncen_updater.publisher.distribute.upload import upload as copy
    from ncen_updater.publisher.feed.feed import Feed

    session = session_of(context)
    with session.progress() as progress, durable.readable_by_all():
        done = copy(Feed(feed), open_place(place, endpoint), progress, accept_interruption)
    show_result(
        session,
        {"place": place, **dataclasses.asdict(done)},
        N_("{place} serves timestamp {timestamp}; {kept} files were there already."),
        *done.written,
    )
