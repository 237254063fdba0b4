"""``inspect``: what the papers of a published release say, for auditors."""

from __future__ import annotations

from pathlib import Path

import click

from ncen_updater.common.cli.lazy import PublisherCommand, session_of
from ncen_updater.common.i18n import N_
from ncen_updater.publisher.cli.common import (
    DIRECTORY,
    builder_option,
    chosen_product,
    paper_lines,
    product_option,
    show_result,
)


@click.command(
    "inspect",
    cls=PublisherCommand,
    help=N_("Check SBOM and provenance of VERSION in FEED, any copy of the feed, and say them."),
)
@click.argument("feed", type=DIRECTORY)
@click.argument("version")
@product_option
@builder_option
@click.pass_context
def inspect(
    context: click.Context, feed: Path, version: str, product: str | None, builder_key: Path | None
) -> None:
    from ncen_updater.publisher.build.attachments import inspect_release
    from ncen_updater.publisher.feed.feed import Feed
    from ncen_updater.publisher.signing.keys import load_public_key

    session = session_of(context)
    key = load_public_key(builder_key) if builder_key else None
    name = chosen_product(Feed(feed).state(), product)
    document, checked = inspect_release(Feed(feed), name, version, key)
    show_result(
        session,
        {
            "product": name,
            "version": version,
            "archive": document.archive.model_dump(),
            "sbom": document.sbom.model_dump() if document.sbom else None,
            "parts": checked.parts,
            "provenance": dict(checked.provenance) if checked.provenance else None,
        },
        N_("{product} {version} is in the feed, signed by its officers."),
        *(line.render(session.language) for line in paper_lines(checked)),
    )
