"""``show``, ``sign``, ``merge``: what officers do with an event, away from the network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ncen_updater.common.cli.lazy import PublisherCommand, session_of
from ncen_updater.common.i18n import N_, Text
from ncen_updater.publisher.cli.common import (
    DIRECTORY,
    FILE,
    anchor,
    builder_option,
    compare_releases,
    now,
    passphrase_options,
    passphrases,
    pin,
    root_option,
    show_event,
    show_line,
    show_result,
    show_signatures,
    token_options,
)

if TYPE_CHECKING:
    from securesystemslib.signer import Signer

__all__ = ["merge", "show", "sign"]

staging_option = click.option(
    "--staging",
    type=DIRECTORY,
    help=N_("The files of the release, where they travel along: hash every one of them."),
)


beside_option = click.option(
    "--feed",
    type=DIRECTORY,
    help=N_("The published feed, where it travels along: with it and --staging, count lines."),
)


@click.command(
    "show",
    cls=PublisherCommand,
    help=N_("Say in words what EVENT changes, and who has signed."),
)
@click.argument("event", type=DIRECTORY)
@root_option
@staging_option
@builder_option
@beside_option
@click.option(
    "--html",
    type=click.Path(path_type=Path, dir_okay=False),
    help=N_("Write the same as a page to be printed."),
)
@click.pass_context
def show(
    context: click.Context,
    event: Path,
    root: Path | None,
    staging: Path | None,
    builder_key: Path | None,
    feed: Path | None,
    html: Path | None,
) -> None:
    from ncen_updater.publisher.review.review import review
    from ncen_updater.publisher.signing.event import SigningEvent

    loaded = SigningEvent.load(event)
    if root is not None:
        anchor(loaded, root)
    releases = compare_releases(loaded, staging, builder_key, unread=True)
    anchored = root is not None or not loaded.roots
    page = review(loaded, staging, feed)
    show_event(
        session_of(context), loaded, anchored=anchored, releases=releases, page=page, html=html
    )


@click.command(
    "sign",
    cls=PublisherCommand,
    help=N_("Say what EVENT does and what is marked in it, ask, and sign. Needs no network."),
)
@click.argument("event", type=DIRECTORY)
@click.option("--key", type=FILE, help=N_("Your private key, NAME.pem."))
@click.option("--token", help=N_("Label of the token with your key, in place of --key."))
@token_options
@click.option(
    "--digest",
    required=True,
    help=N_("Digest of the event as you were told it: eight words, or 32 digits of it."),
)
@root_option
@staging_option
@builder_option
@beside_option
@click.option("--yes", is_flag=True, help=N_("Answer the question with yes."))
@click.option(
    "--ledger",
    type=click.Path(path_type=Path, dir_okay=False),
    help=N_("Your list of what you signed; beside the key, or else the root, unless named."),
)
@click.option(
    "--second-draft",
    is_flag=True,
    help=N_("Sign another draft of a list that you signed, since the first was given up."),
)
@passphrase_options
@click.pass_context
def sign(
    context: click.Context,
    event: Path,
    key: Path | None,
    token: str | None,
    key_id: int,
    module: Path | None,
    digest: str,
    root: Path | None,
    staging: Path | None,
    builder_key: Path | None,
    feed: Path | None,
    yes: bool,
    ledger: Path | None,
    second_draft: bool,
    passphrase_fd: int | None,
    passphrase_file: Path | None,
) -> None:
    from ncen_updater.publisher.review.review import review
    from ncen_updater.publisher.review.words import short_lines
    from ncen_updater.publisher.signing.event import SigningEvent
    from ncen_updater.publisher.signing.keys import (
        PRIVATE_SUFFIX,
        load_public_key,
        open_signer,
        owner_of,
        public_path,
    )
    from ncen_updater.publisher.signing.ledger import LEDGER_SUFFIX, Ledger

    session = session_of(context)
    if (key is None) == (token is None):
        raise click.UsageError("one of --key and --token is needed", context)
    loaded = SigningEvent.load(event)
    loaded.refuse_other_digest(digest)
    anchor(loaded, root)
    loaded.refuse_future(now())
    compare_releases(loaded, staging, builder_key, unread=False)
    for line in short_lines(review(loaded, staging, feed, whole=True)):
        show_line(session, line)
    question = N_("Sign this as {owner}?")
    beside = root.parent if root is not None else Path()
    if key is not None:
        public = load_public_key(public_path(key))
        beside = key.parent
        name = key.name.removesuffix(PRIVATE_SUFFIX)
    else:
        from ncen_updater.publisher.signing import tokens

        label = token or ""
        held = tokens.Token(label, key_id, tokens.find_module(module))
        known = [k for role in loaded.drafts for k in loaded.signers_of(role).values()]
        public = tokens.known_key(held, known)
        name = owner_of(public)
    roles = loaded.roles_of(public)
    signed = Ledger(ledger or beside / f"{name}{LEDGER_SUFFIX}")
    if not second_draft:
        signed.refuse_second(loaded, roles)
    session.agree(Text(question, {"owner": owner_of(public)}), yes=yes)
    signer: Signer
    if key is not None:
        signer = open_signer(key, passphrases(session, passphrase_fd, passphrase_file))
    else:
        signer = tokens.open_token(
            held, known, lambda: pin(session, passphrase_fd, passphrase_file, label)
        )
    # Before the signature: what was written down and not signed can be signed later.
    signed.note(loaded, roles, now())
    written = loaded.sign(signer, digest)
    files = [str(path) for path in written]
    show_result(session, {"files": files}, N_("Signed; send back:"), *files)


@click.command(
    "merge",
    cls=PublisherCommand,
    help=N_("Take SIGNATURES of officers into EVENT and say what is still missing."),
)
@click.argument("event", type=DIRECTORY)
@click.argument("signatures", type=FILE, nargs=-1)
@click.pass_context
def merge(context: click.Context, event: Path, signatures: tuple[Path, ...]) -> None:
    from ncen_updater.publisher.feed.status import signature_status
    from ncen_updater.publisher.signing.event import SigningEvent

    loaded = SigningEvent.load(event)
    for path in signatures:
        loaded.merge(path)
    show_signatures(session_of(context), signature_status(loaded))
