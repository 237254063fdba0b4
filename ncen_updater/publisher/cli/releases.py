"""``agent-release``, ``lint``, ``build``, ``draft``, ``withdraw``, ``inspect``: releases."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ncen_updater.common.cli.lazy import PublisherCommand, session_of
from ncen_updater.common.cli.render import finding_document, finding_lines
from ncen_updater.common.cli.usage import Misuse
from ncen_updater.common.findings import Severity
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import ExitCode
from ncen_updater.publisher.cli.common import (
    DIRECTORY,
    FILE,
    builder_option,
    chosen_product,
    event_option,
    feed_option,
    now,
    paper_lines,
    parse_wave,
    passphrase_options,
    passphrases,
    product_option,
    show_event,
    show_line,
    show_result,
    versioned_draft,
    withdrawal,
)

if TYPE_CHECKING:
    from ncen_updater.publisher.build.deltas import NotMade
    from ncen_updater.publisher.cli.common import DraftMaker


@click.command(
    "agent-release",
    cls=PublisherCommand,
    help=N_("Make the release directory of the agent itself in DIRECTORY."),
)
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--wheels", type=DIRECTORY, required=True, help=N_("The agent's wheel and the locked ones.")
)
@click.option("--lock", type=FILE, required=True, help=N_("The lock file with digests."))
@click.option("--units", type=DIRECTORY, help=N_("Units for systemd that come along."))
@click.pass_context
def agent_release(
    context: click.Context, directory: Path, wheels: Path, lock: Path, units: Path | None
) -> None:
    from ncen_updater.publisher.build.agent_release import make_agent_release

    made = make_agent_release(wheels, lock, directory, units)
    show_result(session_of(context), asdict(made), N_("Agent {version}: {wheels} wheels, {bytes}."))


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


BUILT_FILE = N_("{sha256}  {target}  ({length} bytes)")
NOT_KEPT = N_("no delta pack from {from_version}: it has {pack_bytes}, the archive {archive_bytes}")
NOT_MADE = N_("no delta pack from {from_version}: {reason} ({detail})")


@click.command(
    "lint",
    cls=PublisherCommand,
    help=N_("Say what is wrong with the release in DIRECTORY before anybody signs it."),
)
@click.argument("directory", type=DIRECTORY)
@click.option("--feed", type=DIRECTORY, help=N_("The published feed, to compare migrations with."))
@click.pass_context
def lint(context: click.Context, directory: Path, feed: Path | None) -> ExitCode:
    from ncen_updater.publisher.feed.feed import Feed
    from ncen_updater.publisher.lint.lint import lint_against

    session = session_of(context)
    findings = lint_against(Feed(feed) if feed else None, directory)
    for line in finding_lines(findings, session.language):
        session.show(line)
    if not findings:
        show_line(session, Text(N_("Nothing found.")))
    session.finish(
        {"findings": [finding_document(finding, session.language) for finding in findings]}
    )
    strict = any(finding.severity is Severity.STRICT for finding in findings)
    return ExitCode.BLOCKED if strict else ExitCode.OK


@click.command(
    "build",
    cls=PublisherCommand,
    help=N_("Build the release in DIRECTORY into TUF targets, the same bytes every time."),
)
@click.argument("directory", type=DIRECTORY)
@click.option("--staging", type=DIRECTORY, required=True, help=N_("Where the targets are written."))
@click.option(
    "--feed", type=DIRECTORY, help=N_("The published feed, to make delta packs from its releases.")
)
@click.option(
    "--delta-from",
    "origins",
    multiple=True,
    metavar="VERSION",
    help=N_("Make a delta pack from this release; by default from the last five that fit."),
)
@click.option(
    "--sbom",
    metavar="FILE|auto",
    help=N_("The list of parts (CycloneDX): a file, or 'auto' for what names itself in the tree."),
)
@click.option(
    "--provenance",
    "builder_key",
    type=FILE,
    metavar="KEY",
    help=N_("Write the builder's statement (in-toto), signed with the builder's private key."),
)
@click.option("--builder", help=N_("Address of the builder, for the statement."))
@click.option("--source", help=N_("Where the source lies, for the statement."))
@click.option("--commit", default="", help=N_("Git commit of the source, for the statement."))
@passphrase_options
@click.pass_context
def build(
    context: click.Context,
    directory: Path,
    staging: Path,
    feed: Path | None,
    origins: tuple[str, ...],
    sbom: str | None,
    builder_key: Path | None,
    builder: str | None,
    source: str | None,
    commit: str,
    passphrase_fd: int | None,
    passphrase_file: Path | None,
) -> None:
    from ncen_updater.publisher.build.attachments import PaperMaker, SourceOfBuild
    from ncen_updater.publisher.build.build import DEFAULT_EPOCH, build_release
    from ncen_updater.publisher.build.deltas import DeltaMaker
    from ncen_updater.publisher.feed.feed import Feed
    from ncen_updater.publisher.lint.lint import lint_against, refuse_blocked
    from ncen_updater.publisher.signing.keys import open_signer

    if builder_key is not None and not (builder and source):
        raise Misuse(N_("--provenance needs --builder and --source"))
    if origins and feed is None:
        raise Misuse(N_("--delta-from needs --feed"))
    session = session_of(context)
    found = lint_against(Feed(feed) if feed else None, directory)
    # What cannot be read at all is said by the build, with its place.
    unread = {"NU-7101", "NU-7102"}
    refuse_blocked(str(directory), [item for item in found if item.code not in unread])
    signer = None
    if builder_key is not None:
        signer = open_signer(builder_key, passphrases(session, passphrase_fd, passphrase_file))
    papers = PaperMaker(
        sbom=Path(sbom) if sbom and sbom != "auto" else sbom,
        source=SourceOfBuild(builder, source, commit) if builder and source else None,
        signer=signer,
    )
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    with session.progress() as progress:
        done = 0

        def count(read: int) -> None:
            nonlocal done
            done += read
            progress.tell(building, done)

        building = Text(N_("packing {directory}, bytes read"), {"directory": directory})
        progress.tell(building)
        maker = DeltaMaker(Feed(feed), progress, origins or None) if feed else None
        built = build_release(
            directory,
            staging,
            int(epoch) if epoch.isascii() and epoch.isdigit() else DEFAULT_EPOCH,
            count,
            maker,
            papers,
        )
    dropped = tuple(maker.dropped) if maker else ()
    not_made = maker.not_made if maker else []
    manifest = built.document.manifest
    show_result(
        session,
        {
            "product": manifest.product,
            "version": manifest.version,
            "targets": [ref.model_dump() for ref in built.targets],
            "unpacked_bytes": built.document.unpacked_bytes,
            "dropped_packs": [dataclasses.asdict(item) for item in dropped],
            "packs_not_made": [
                {
                    "from_version": item.from_version,
                    "code": item.error.code,
                    "reason": item.error.what_text.render(session.language),
                    "detail": item.error.detail,
                }
                for item in not_made
            ],
        },
        N_("Built {product} {version}."),
        *(Text(BUILT_FILE, ref.model_dump()).render(session.language) for ref in built.targets),
        *(Text(NOT_KEPT, dataclasses.asdict(item)).render(session.language) for item in dropped),
        *(_not_made(item).render(session.language) for item in not_made),
    )


def _not_made(item: NotMade) -> Text:
    error = item.error
    values = {"from_version": item.from_version, "reason": error.what_text}
    return Text(NOT_MADE, {**values, "detail": error.detail or error.code})


@click.command(
    "draft",
    cls=PublisherCommand,
    help=N_("Draft the publication of every release in a staging directory."),
)
@feed_option
@event_option
@click.option("--staging", type=DIRECTORY, required=True, help=N_("What 'build' wrote."))
@click.option(
    "--wave",
    "waves",
    multiple=True,
    metavar="WAVE",
    help=N_("When it opens to which sites, as for 'wave'; to all at once if none is given."),
)
@builder_option
@click.pass_context
def draft(
    context: click.Context,
    feed: Path,
    event: Path,
    staging: Path,
    waves: tuple[str, ...],
    builder_key: Path | None,
) -> None:
    from ncen_updater.publisher.feed.feed import Feed
    from ncen_updater.publisher.lint.lint import refuse_blocked
    from ncen_updater.publisher.review.review import review
    from ncen_updater.publisher.signing.draft import draft_releases
    from ncen_updater.publisher.signing.event import SigningEvent

    session = session_of(context)
    from ncen_updater.publisher.signing.keys import load_public_key

    schedule = [parse_wave(text) for text in waves]
    builder = load_public_key(builder_key) if builder_key else None
    with session.progress() as progress:
        progress.tell(Text(N_("reading the feed and the staging directory")))
        published = Feed(feed)
        state = published.state()
        made = draft_releases(state, staging, now(), schedule, builder, published)
        with tempfile.TemporaryDirectory(prefix="nu-draft-") as folder:
            # Looked at first, where nobody will find it: what lint refuses never becomes an event.
            place = Path(folder) / "event"
            page = review(SigningEvent.create(place, made.title, made.roles, state, made.papers))
        for release in page.releases:
            refuse_blocked(f"{release.product} {release.version}", release.findings)
    drafted = SigningEvent.create(event, made.title, made.roles, state, made.papers)
    show_event(session, drafted, page=page)


@click.command("withdraw", cls=PublisherCommand, help=N_("Draft the withdrawal of VERSION."))
@versioned_draft
@click.option("--reason", required=True, help=N_("Why, for operators."))
@click.option(
    "--advice",
    required=True,
    help=N_("What sites that have it should do: operators read it there."),
)
def withdraw(version: str, reason: str, advice: str) -> DraftMaker:
    from ncen_updater.publisher.signing.draft import draft_withdrawal

    taken = withdrawal(reason, advice)
    return lambda state, product: draft_withdrawal(state, product, version, taken, now())
