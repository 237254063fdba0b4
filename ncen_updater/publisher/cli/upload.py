"""``upload``: a copy of the feed where sites reach it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.cli.lazy import PublisherCommand, session_of
from ncen_updater.common.i18n import N_
from ncen_updater.publisher.cli.common import DIRECTORY, show_result


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
    from ncen_updater.publisher.distribute.storage import open_place
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
