"""``lint``, ``build``, ``draft``, ``withdraw``, ``inspect``: releases."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import click

from ncen_updater.common.cli.render import finding_to_json
from ncen_updater.common.cli.session import CliSession
from ncen_updater.common.cli.usage import OPTION_NEEDED, CommandUsageError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import ExitCode
from ncen_updater.common.progress import Amount
from ncen_updater.formats.release_document import Withdrawal
from ncen_updater.publisher.build.attachments import (
    AttachmentBuilder,
    BuildSource,
    check_published_attachments,
)
from ncen_updater.publisher.build.delta_packs import DeltaPackBuilder
from ncen_updater.publisher.build.release_build import DEFAULT_EPOCH, build_release
from ncen_updater.publisher.cli.options import (
    DIRECTORY_PATH,
    FILE_PATH,
    DraftMaker,
    PassphraseSource,
    builder_option,
    choose_product,
    draft_command,
    event_option,
    feed_option,
    format_attachments,
    get_time,
    parse_waves,
    passphrase_options,
    product_option,
    published_feed_option,
    publisher_command,
    regions_option,
    require_words,
    show_event,
    show_findings,
    show_line,
    show_result,
)
from ncen_updater.publisher.feed.feed_directory import FeedDirectory
from ncen_updater.publisher.lint.release_lint import lint_against, refuse_critical_findings
from ncen_updater.publisher.review.event_review import build_review
from ncen_updater.publisher.signing.draft import draft_releases, draft_withdrawal
from ncen_updater.publisher.signing.keys import load_public_key, open_signer
from ncen_updater.publisher.signing.signing_event import SigningEvent


@publisher_command()
@click.argument("feed", type=DIRECTORY_PATH)
@click.argument("version")
@product_option
@builder_option
def inspect(
    session: CliSession, feed: Path, version: str, product: str | None, builder_key: Path | None
) -> None:
    key = load_public_key(builder_key) if builder_key else None
    name = choose_product(FeedDirectory(feed).read_state(), product)
    document, checked = check_published_attachments(FeedDirectory(feed), name, version, key)
    show_result(
        session,
        {
            "product": name,
            "version": version,
            "archive": document.archive.model_dump(),
            "sbom": document.sbom.model_dump() if document.sbom else None,
            "components": checked.component_count,
            "provenance": dict(checked.provenance) if checked.provenance else None,
        },
        N_("{product} {version} is published and signed."),
        *(line.render(session.language) for line in format_attachments(checked)),
    )


BUILT_FILE_TEXT = N_("{sha256}  {target}  ({length} bytes)")
PACK_SKIPPED_TEXT = N_("no delta pack from {from_version}: {reason}")


@publisher_command()
@click.argument("directory", type=DIRECTORY_PATH)
@published_feed_option
def lint(session: CliSession, directory: Path, feed: Path | None) -> ExitCode:
    findings = lint_against(FeedDirectory(feed) if feed else None, directory)
    code = show_findings(session, findings)
    if not findings:
        show_line(session, LazyText(N_("No findings.")))
    session.write_output(
        {"findings": [finding_to_json(finding, session.language) for finding in findings]}
    )
    return code


@publisher_command()
@click.argument("directory", type=DIRECTORY_PATH)
@click.option(
    "--staging", type=DIRECTORY_PATH, required=True, help=N_("Directory of the built targets")
)
@published_feed_option
@click.option(
    "--delta-from",
    "origins",
    multiple=True,
    metavar="VERSION",
    help=N_("Build a delta pack from this release (default: the last five that can be upgraded)"),
)
@click.option("--sbom", type=FILE_PATH, help=N_("SBOM of the release (CycloneDX)"))
@click.option(
    "--provenance",
    "builder_key",
    type=FILE_PATH,
    metavar="KEY",
    help=N_("Write the provenance (in-toto), signed with the private key of the builder"),
)
@click.option("--builder", help=N_("URL of the builder, for the provenance"))
@click.option("--source", help=N_("URL of the source, for the provenance"))
@click.option("--commit", default="", help=N_("Git commit of the source, for the provenance"))
@passphrase_options
def build(
    session: CliSession,
    directory: Path,
    staging: Path,
    feed: Path | None,
    origins: tuple[str, ...],
    sbom: Path | None,
    builder_key: Path | None,
    builder: str | None,
    source: str | None,
    commit: str,
    passphrases: PassphraseSource,
) -> None:
    if builder_key is not None and not (builder and source):
        raise CommandUsageError(OPTION_NEEDED, option="--provenance", other="--builder, --source")
    if origins and feed is None:
        raise CommandUsageError(OPTION_NEEDED, option="--delta-from", other="--feed")
    found = lint_against(FeedDirectory(feed) if feed else None, directory)
    # The build itself reports unreadable files, with their location.
    unread = {"NU-7101", "NU-7102"}
    refuse_critical_findings(str(directory), [item for item in found if item.code not in unread])
    signer = open_signer(builder_key, passphrases.make_prompt(session)) if builder_key else None
    attachments = AttachmentBuilder(
        sbom=sbom,
        source=BuildSource(builder, source, commit) if builder and source else None,
        signer=signer,
    )
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    with session.make_progress() as progress:
        done = 0

        def count(read: int) -> None:
            nonlocal done
            done += read
            progress.report(building, Amount(done))

        building = LazyText(N_("packing {directory}"), {"directory": directory})
        progress.report(building)
        packs = DeltaPackBuilder(FeedDirectory(feed), progress, origins or None) if feed else None
        built = build_release(
            directory,
            staging,
            int(epoch) if epoch.isascii() and epoch.isdigit() else DEFAULT_EPOCH,
            count,
            packs,
            attachments,
        )
    skipped = packs.skipped if packs else []
    manifest = built.document.manifest
    show_result(
        session,
        {
            "product": manifest.product,
            "version": manifest.version,
            "targets": [ref.model_dump() for ref in built.targets],
            "unpacked_bytes": built.document.unpacked_bytes,
            "skipped_packs": [
                {"from_version": i.from_version, "reason": i.reason.render(session.language)}
                for i in skipped
            ],
        },
        N_("Built {product} {version}."),
        *(
            LazyText(BUILT_FILE_TEXT, ref.model_dump()).render(session.language)
            for ref in built.targets
        ),
        *(LazyText(PACK_SKIPPED_TEXT, vars(item)).render(session.language) for item in skipped),
    )


@publisher_command()
@feed_option
@event_option
@click.option(
    "--staging", type=DIRECTORY_PATH, required=True, help=N_("Directory of the built targets")
)
@click.option(
    "--wave",
    "waves",
    multiple=True,
    metavar="WAVE",
    help=N_("Staged rollout, as for wave (default: all sites at once)"),
)
@regions_option
@builder_option
def draft(
    session: CliSession,
    feed: Path,
    event: Path,
    staging: Path,
    waves: tuple[str, ...],
    regions: Path | None,
    builder_key: Path | None,
) -> None:
    schedule = parse_waves(waves, regions)
    builder = load_public_key(builder_key) if builder_key else None
    with session.make_progress() as progress:
        progress.report(LazyText(N_("reading the feed and the staging directory")))
        published = FeedDirectory(feed)
        state = published.read_state()
        made = draft_releases(state, staging, get_time(), schedule, builder, published)
        with tempfile.TemporaryDirectory(prefix="nu-draft-") as folder:
            # Review the draft in a temporary directory first: no event is created if lint refuses
            # it.
            place = Path(folder) / "event"
            page = build_review(
                SigningEvent.create(place, made.title, made.roles, state, made.review_files)
            )
        for release in page.releases:
            refuse_critical_findings(f"{release.product} {release.version}", release.findings)
    drafted = SigningEvent.create(event, made.title, made.roles, state, made.review_files)
    show_event(session, drafted, page=page)


@draft_command()
@click.option(
    "--reason", required=True, callback=require_words, help=N_("Reason shown to operators")
)
@click.option(
    "--advice", required=True, callback=require_words, help=N_("Advice to sites that installed it")
)
def withdraw(version: str, reason: str, advice: str) -> DraftMaker:
    taken = Withdrawal(reason=reason, advice=advice)
    return lambda state, product: draft_withdrawal(state, product, version, taken, get_time())
