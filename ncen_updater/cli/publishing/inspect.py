"""``inspect``: what the papers of a published release say, for auditors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from ncen_updater.cli.lazy import PublisherCommand, session_of
from ncen_updater.cli.publishing.common import DIRECTORY, FILE, show_result
from ncen_updater.i18n import N_, Text

__all__ = ["inspect"]


@click.command(
    "inspect",
    cls=PublisherCommand,
    help=N_("Check SBOM and provenance of VERSION in FEED, any copy of the feed, and say them."),
)
@click.argument("feed", type=DIRECTORY)
@click.argument("version")
@click.option("--product", default="ncen", help=N_("The product; ncen unless another is named."))
@click.option("--builder-key", type=FILE, help=N_("Public file of the builder, NAME.pub.json."))
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
    lines = [
        Text(N_("It has no SBOM."))
        if checked.parts is None
        else Text(N_("Its SBOM lists {count} parts."), {"count": checked.parts}),
        _built(checked.provenance) if checked.provenance else Text(N_("It has no provenance.")),
    ]
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
        *(line.render(session.language) for line in lines),
    )


def _built(predicate: Mapping[str, Any]) -> Text:
    sources = predicate["buildDefinition"].get("resolvedDependencies") or [{}]
    values = {
        "builder": predicate["runDetails"]["builder"]["id"],
        "source": sources[0].get("uri", "-"),
        "commit": (sources[0].get("digest") or {}).get("gitCommit", "-"),
    }
    return Text(N_("Built by {builder} from {source}, commit {commit}."), values)
