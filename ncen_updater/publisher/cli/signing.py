"""``show``, ``sign``, ``merge``: work on a signing event, without a network."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import click

from ncen_updater.common.cli.lazy import PublisherCommand, get_session
from ncen_updater.common.cli.usage import CommandUsageError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.publisher.cli.options import (
    DIRECTORY_PATH,
    FILE_PATH,
    add_passphrase_options,
    add_token_options,
    ask_pin,
    builder_option,
    check_event_releases,
    get_time,
    load_key_file,
    load_signer_settings,
    load_token_key,
    make_passphrase_prompt,
    open_event,
    root_option,
    show_event,
    show_result,
    show_signatures,
    show_wrapped,
    signer_option,
    verify_event_root,
)

#: A signing event: its directory or its single file.
EVENT_PATH = click.Path(path_type=Path, exists=True)

staging_option = click.option(
    "--staging",
    type=DIRECTORY_PATH,
    help=N_("Files of the release, to verify their digests"),
)


published_feed_option = click.option(
    "--feed",
    type=DIRECTORY_PATH,
    help=N_("Published feed, to show changed lines (with --staging)"),
)


@click.command(
    "show",
    cls=PublisherCommand,
    help=N_("Show the changes and signatures of a signing event"),
)
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
@click.pass_context
def show(
    context: click.Context,
    event: Path,
    root: Path | None,
    staging: Path | None,
    builder_key: Path | None,
    feed: Path | None,
    signer: Path | None,
    html: Path | None,
) -> None:
    from ncen_updater.publisher.review.event_review import build_review

    known = load_signer_settings(signer)
    root, builder_key = root or known.root, builder_key or known.builder_key
    staging, feed = staging or known.staging, feed or known.feed
    with open_event(event) as loaded:
        if root is not None:
            verify_event_root(loaded, root)
        releases = check_event_releases(loaded, staging, builder_key, unread=True)
        show_event(
            get_session(context),
            loaded,
            root_compared=root is not None or not loaded.roots,
            releases=releases,
            page=build_review(loaded, staging, feed),
            html=html,
            place=event,
        )


@click.command(
    "sign",
    cls=PublisherCommand,
    help=N_("Show the summary of EVENT, ask for confirmation and sign offline"),
)
@click.argument("event", type=EVENT_PATH)
@click.option("--key", type=FILE_PATH, help=N_("Your private key, NAME.pem"))
@click.option("--token", help=N_("Label of the token with your key, instead of --key"))
@add_token_options
@click.option(
    "--digest",
    help=N_("Event digest: eight words or 32 digits (default: prompt)"),
)
@root_option
@staging_option
@builder_option
@published_feed_option
@signer_option
@click.option("--yes", is_flag=True, help=N_("Skip the confirmation prompt"))
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
@add_passphrase_options
@click.pass_context
def sign(
    context: click.Context,
    event: Path,
    key: Path | None,
    token: str | None,
    key_id: int | None,
    module: Path | None,
    digest: str | None,
    root: Path | None,
    staging: Path | None,
    builder_key: Path | None,
    feed: Path | None,
    signer: Path | None,
    yes: bool,
    ledger: Path | None,
    second_draft: bool,
    passphrase_fd: int | None,
    passphrase_file: Path | None,
) -> None:
    from ncen_updater.publisher.review.event_review import build_review
    from ncen_updater.publisher.review.text_page import format_summary, unshown
    from ncen_updater.publisher.signing.event_files import EVENT_SUFFIX, SIGNATURES_SUFFIX
    from ncen_updater.publisher.signing.keys import get_key_owner
    from ncen_updater.publisher.signing.signing_ledger import LEDGER_SUFFIX, SigningLedger

    session, known = get_session(context), load_signer_settings(signer)
    if key is None and token is None:
        key, token = known.key, known.token
    if (key is None) == (token is None):
        raise CommandUsageError(N_("give --key or --token"), context)
    root, builder_key = root or known.root, builder_key or known.builder_key
    staging, feed = staging or known.staging, feed or known.feed
    with open_event(event) as loaded:
        reported = digest if digest is not None else _ask_digest(context)
        loaded.refuse_other_digest(reported)
        verify_event_root(loaded, root)
        loaded.refuse_future_drafts(get_time())
        check_event_releases(loaded, staging, builder_key, unread=False)
        page = build_review(loaded, staging, feed, complete=True)
        for line in (*format_summary(page), unshown(page, session.language)):
            show_wrapped(session, line)
        if key is not None:
            ask = make_passphrase_prompt(session, passphrase_fd, passphrase_file)
            hand = load_key_file(key, ask)
        else:
            # the list of signed events is beside the signer's own root metadata or settings
            own = root or known.source
            hand = load_token_key(
                token or "",
                key_id or known.key_id,
                module or known.module,
                [k for role in loaded.drafts for k in loaded.list_signers(role).values()],
                functools.partial(ask_pin, session, passphrase_fd, passphrase_file),
                own.parent if own is not None else Path(),
            )
        owner = get_key_owner(hand.public)
        known.refuse_other_owner(owner)
        roles = loaded.list_signable_roles(hand.public)
        signed = SigningLedger(ledger or hand.beside / f"{hand.name}{LEDGER_SUFFIX}")
        if not second_draft:
            signed.refuse_second_draft(loaded, roles)
        session.ask_confirmation(LazyText(N_("Sign as {owner}?"), {"owner": owner}), assume_yes=yes)
        signer = hand.opened()
        # Recorded before signing: a recorded event without a signature can still be signed later.
        signed.record_signing(loaded, roles, get_time())
        answer = None
        if not event.is_dir():
            stem = event.name.removesuffix(EVENT_SUFFIX)
            answer = event.with_name(f"{stem}.{hand.name}{SIGNATURES_SUFFIX}")
        files = [str(path) for path in loaded.sign_drafts(signer, reported, answer)]
    show_result(session, {"files": files}, N_("Signed. Return these files:"), *files)


def _ask_digest(context: click.Context) -> str:
    """Ask for the event digest; it is not displayed, so that nobody can copy it."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise CommandUsageError(N_("--digest is required without a terminal"), context)
    words = N_("Event digest (eight words or 32 digits)")
    session = get_session(context)
    reported: str = session.prompt(session.translate(words))
    return reported


@click.command(
    "merge",
    cls=PublisherCommand,
    help=N_("Merge signatures into a signing event"),
)
@click.argument("event", type=DIRECTORY_PATH)
@click.argument("signatures", type=FILE_PATH, nargs=-1)
@click.pass_context
def merge(context: click.Context, event: Path, signatures: tuple[Path, ...]) -> None:
    from ncen_updater.publisher.distribute.feed_status import read_signature_status
    from ncen_updater.publisher.signing.signing_event import SigningEvent

    loaded = SigningEvent.load(event)
    for path in signatures:
        loaded.merge_signatures(path)
    show_signatures(get_session(context), read_signature_status(loaded))
