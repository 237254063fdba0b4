"""``show``, ``sign``, ``merge``: work on a signing event, without a network."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click

from ncen_updater.common.cli.session import CliSession
from ncen_updater.common.cli.usage import CommandUsageError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.publisher.cli.options import (
    DIRECTORY_PATH,
    FILE_PATH,
    KeyChoice,
    PassphraseSource,
    TokenSlot,
    builder_option,
    format_signatures,
    get_time,
    key_options,
    load_settings,
    passphrase_options,
    published_feed_option,
    publisher_command,
    root_option,
    show_event,
    show_line,
    show_result,
    show_wrapped,
    signer_option,
    token_options,
    yes_option,
)
from ncen_updater.publisher.distribute.feed_status import read_signature_status
from ncen_updater.publisher.review.event_review import build_review
from ncen_updater.publisher.review.text_page import describe_unshown, format_summary
from ncen_updater.publisher.signing.event_files import (
    EVENT_SUFFIX,
    SIGNATURES_SUFFIX,
    read_own_root,
    unpack_event,
)
from ncen_updater.publisher.signing.keys import get_key_owner, load_public_key
from ncen_updater.publisher.signing.release_comparison import (
    ComparedRelease,
    compare_releases,
)
from ncen_updater.publisher.signing.signing_event import SigningEvent
from ncen_updater.publisher.signing.signing_ledger import LEDGER_SUFFIX, SigningLedger

#: A signing event: its directory or its single file.
EVENT_PATH = click.Path(path_type=Path, exists=True)

staging_option = click.option(
    "--staging",
    type=DIRECTORY_PATH,
    help=N_("Files of the release, to verify their digests"),
)


@contextlib.contextmanager
def _open_event(place: Path) -> Iterator[SigningEvent]:
    """Load a signing event from its directory or its single file."""
    if place.is_dir():
        yield SigningEvent.load(place)
        return
    with tempfile.TemporaryDirectory(prefix="nu-event-") as folder:
        unpack_event(place, Path(folder))
        yield SigningEvent.load(Path(folder))


def _compare_releases(
    event: SigningEvent, staging: Path | None, builder_key: Path | None, *, unread: bool
) -> list[ComparedRelease]:
    """Compare the releases that an event adds with its metadata."""
    builder = load_public_key(builder_key) if builder_key else None
    return compare_releases(event, staging, builder, unread=unread)


@publisher_command()
@click.argument("event", type=EVENT_PATH)
@root_option
@staging_option
@builder_option
@published_feed_option
@signer_option
@click.option(
    "--html",
    type=click.Path(path_type=Path, dir_okay=False),
    help=N_("Write an HTML page to print"),
)
def show(
    session: CliSession,
    event: Path,
    root: Path | None,
    staging: Path | None,
    builder_key: Path | None,
    feed: Path | None,
    signer: Path | None,
    html: Path | None,
) -> None:
    known = load_settings(signer)
    root, builder_key = root or known.root, builder_key or known.builder_key
    staging, feed = staging or known.staging, feed or known.feed
    with _open_event(event) as loaded:
        if root is not None:
            loaded.verify_root(read_own_root(root))
        releases = _compare_releases(loaded, staging, builder_key, unread=True)
        show_event(
            session,
            loaded,
            root_compared=root is not None or not loaded.roots,
            releases=releases,
            page=build_review(loaded, staging, feed),
            html=html,
            place=event,
        )


@publisher_command(N_("Show the summary of EVENT, ask for confirmation and sign offline"))
@click.argument("event", type=EVENT_PATH)
@key_options
@token_options
@click.option(
    "--digest",
    help=N_("Event digest: eight words or at least 32 digits (default: prompt)"),
)
@root_option
@staging_option
@builder_option
@published_feed_option
@signer_option
@yes_option
@click.option(
    "--ledger",
    type=click.Path(path_type=Path, dir_okay=False),
    help=N_("Your signing history (default: beside the key or the root metadata)"),
)
@click.option(
    "--second-draft",
    is_flag=True,
    help=N_("Sign another draft of metadata that you already signed"),
)
@passphrase_options
def sign(
    session: CliSession,
    event: Path,
    choice: KeyChoice,
    slot: TokenSlot,
    digest: str | None,
    root: Path | None,
    staging: Path | None,
    builder_key: Path | None,
    feed: Path | None,
    signer: Path | None,
    yes: bool,
    ledger: Path | None,
    second_draft: bool,
    passphrases: PassphraseSource,
) -> None:
    known = load_settings(signer)
    choice = choice.complete(known.key, known.token)
    root, builder_key = root or known.root, builder_key or known.builder_key
    staging, feed = staging or known.staging, feed or known.feed
    with _open_event(event) as loaded:
        reported = digest if digest is not None else _ask_digest(session)
        loaded.refuse_other_digest(reported)
        loaded.verify_root(read_own_root(root) if root is not None else None)
        loaded.refuse_future_drafts(get_time())
        _compare_releases(loaded, staging, builder_key, unread=False)
        page = build_review(loaded, staging, feed, complete=True)
        for line in (*format_summary(page), describe_unshown(page, event, session.language)):
            show_wrapped(session, line)
        may_sign = [key for role in loaded.drafts for key in loaded.list_signers(role).values()]
        # For a token, the list of signed events is beside the signer's own root or settings.
        own = root or known.source
        signing_key = choice.load(
            session, passphrases, slot, known, may_sign, own.parent if own else Path()
        )
        owner = get_key_owner(signing_key.public)
        known.refuse_other_owner(owner)
        roles = loaded.list_signable_roles(signing_key.public)
        signed = SigningLedger(
            ledger or signing_key.ledger_directory / f"{signing_key.name}{LEDGER_SUFFIX}"
        )
        if not second_draft:
            signed.refuse_second_draft(loaded, roles)
        session.ask_confirmation(LazyText(N_("Sign as {owner}?"), {"owner": owner}), assume_yes=yes)
        signer = signing_key.open_signer()
        # Recorded before signing: a recorded event without a signature can still be signed later.
        signed.record_signing(loaded, roles, get_time())
        answer = None
        if not event.is_dir():
            stem = event.name.removesuffix(EVENT_SUFFIX)
            answer = event.with_name(f"{stem}.{signing_key.name}{SIGNATURES_SUFFIX}")
        files = [str(path) for path in loaded.sign_drafts(signer, reported, answer)]
    show_result(session, {"files": files}, N_("Signed. Return these files:"), *files)


def _ask_digest(session: CliSession) -> str:
    """Ask for the event digest; it is not displayed, so that nobody can copy it."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise CommandUsageError(N_("--digest is required without a terminal"))
    words = N_("Event digest (eight words or at least 32 digits)")
    reported: str = session.prompt(session.translate(words))
    return reported


@publisher_command()
@click.argument("event", type=DIRECTORY_PATH)
@click.argument("signatures", type=FILE_PATH, nargs=-1)
def merge(session: CliSession, event: Path, signatures: tuple[Path, ...]) -> None:
    loaded = SigningEvent.load(event)
    for path in signatures:
        loaded.merge_signatures(path)
    found = read_signature_status(loaded)
    for text in format_signatures(found):
        show_line(session, text)
    session.write_output({"signatures": [dataclasses.asdict(item) for item in found]})
