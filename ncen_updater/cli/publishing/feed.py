"""``publish``, ``refresh``, ``status``: the feed itself and its online roles."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ncen_updater.cli.lazy import PublisherCommand, session_of
from ncen_updater.cli.publishing.common import (
    DIRECTORY,
    FILE,
    now,
    passphrase_options,
    passphrases,
    show_line,
    show_result,
)
from ncen_updater.i18n import N_, Text

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

    from ncen_updater.cli.session import Session

__all__ = ["publish", "refresh", "status"]


def _online_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for role in ("timestamp", "snapshot"):
        words = {
            "snapshot": N_("Private key of snapshot; may be given twice."),
            "timestamp": N_("Private key of timestamp; may be given twice."),
        }[role]
        command = click.option(
            f"--{role}-key", type=FILE, multiple=True, required=True, help=words
        )(command)
    return command


def _online(
    session: Session,
    snapshot_key: tuple[Path, ...],
    timestamp_key: tuple[Path, ...],
    passphrase_fd: int | None,
    passphrase_file: Path | None,
) -> dict[str, list[Signer]]:
    from ncen_updater.publisher.keys import open_signer

    ask = passphrases(session, passphrase_fd, passphrase_file)
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
@_online_options
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
    from ncen_updater.publisher.event import Event
    from ncen_updater.publisher.feed import Feed
    from ncen_updater.publisher.publish import Publisher

    session = session_of(context)
    online = _online(session, snapshot_key, timestamp_key, passphrase_fd, passphrase_file)
    with session.progress() as progress:
        done = Publisher(Feed(feed), now, progress=progress).publish(
            Event.load(event), staging, online, accept_interruption
        )
    show_result(session, dataclasses.asdict(done), N_("Published: {new_roles}"), *done.new_targets)


@click.command(
    "refresh",
    cls=PublisherCommand,
    help=N_("Sign timestamp and snapshot anew where that is due, so that the feed does not lapse."),
)
@click.argument("feed", type=DIRECTORY)
@_online_options
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
    from ncen_updater.publisher.feed import Feed
    from ncen_updater.publisher.publish import Publisher

    session = session_of(context)
    online = _online(session, snapshot_key, timestamp_key, passphrase_fd, passphrase_file)
    done = Publisher(Feed(feed), now).refresh(online)
    due = N_("Signed anew: {new_roles}") if done.new_roles else N_("Nothing was due.")
    show_result(session, dataclasses.asdict(done), due)


@click.command(
    "status",
    cls=PublisherCommand,
    help=N_("Say what FEED holds, when its roles lapse, and what is withdrawn."),
)
@click.argument("feed", type=DIRECTORY)
@click.pass_context
def status(context: click.Context, feed: Path) -> None:
    from ncen_updater.publisher.feed import Feed
    from ncen_updater.publisher.status import feed_status

    session = session_of(context)
    roles, releases = feed_status(Feed(feed).state(), now())
    line = N_(
        "{role}: version {version}, {signed} of {threshold} signatures, {days_left} days left"
    )
    for role in roles:
        show_line(session, Text(line, dataclasses.asdict(role)))
    offer = N_("{product} {version} ({channel})")
    stop = N_("{product} {version} ({channel}), required stop")
    gone = N_("{product} {version} ({channel}), withdrawn: {withdrawn}")
    for release in releases:
        template = gone if release.withdrawn else stop if release.required else offer
        show_line(session, Text(template, dataclasses.asdict(release)))
    session.finish(
        {
            "roles": [dataclasses.asdict(role) for role in roles],
            "releases": [dataclasses.asdict(release) for release in releases],
        }
    )
