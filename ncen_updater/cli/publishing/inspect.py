"""``inspect``: what the papers of a published release say, for auditors."""

from __future__ import annotations

from pathlib import Path

import click

from ncen_updater.cli.lazy import PublisherCommand, session_of
from ncen_updater.cli.publishing.common import (
    DIRECTORY,
    builder_option,
    paper_lines,
    show_result,
)
from ncen_updater.i18n import N_

__all__ = ["inspect"]


@click.command(
    "inspect",
    cls=PublisherCommand,
    help=N_("Check SBOM and provenance of VERSION in FEED, any copy of the feed, and say them."),
)
@click.argument("feed", type=DIRECTORY)
@click.argument("version")
@click.option("--product", default="ncen", help=N_("The product; ncen unless another is named."))
@builder_option
@click.pass_context
def inspect(
    context: click.Context, feed: Path, version: str, product: str, builder_key: Path | None
) -> None:
    from ncen_updater.publisher.feed import Feed
    from ncen_updater.publisher.keys import load_public_key
    from ncen_updater.publisher.papers import inspect_release

    session = session_of(context)
    key = load_public_key(builder_key) if builder_key else None
    document, checked = inspect_release(Feed(feed), product, version, key)
    show_result(
        session,
        {
            "product": product,
            "version": version,
            "archive": document.archive.model_dump(),
            "sbom": document.sbom.model_dump() if document.sbom else None,
            "parts": checked.parts,
            "provenance": dict(checked.provenance) if checked.provenance else None,
        },
        N_("{product} {version} is in the feed, signed by its officers."),
        *(line.render(session.language) for line in paper_lines(checked)),
    )
