"""``show``, ``sign``, ``merge``: what officers do with an event, away from the network."""

from __future__ import annotations

from pathlib import Path

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
    passphrase_fd: int | None,
    passphrase_file: Path | None,
) -> None:
    from ncen_updater.publisher.review.review import review
    from ncen_updater.publisher.review.words import short_lines
    from ncen_updater.publisher.signing.event import SigningEvent
    from ncen_updater.publisher.signing.keys import (
        load_public_key,
        open_signer,
        owner_of,
        public_path,
    )

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
    if key is not None:
        owner = owner_of(load_public_key(public_path(key)))
        session.agree(Text(question, {"owner": owner}), yes=yes)
        signer = open_signer(key, passphrases(session, passphrase_fd, passphrase_file))
    else:
        from ncen_updater.publisher.signing import tokens

        label = token or ""
        held = tokens.Token(label, key_id, tokens.find_module(module))
        known = [k for role in loaded.drafts for k in loaded.signers_of(role).values()]
        owner = owner_of(tokens.known_key(held, known))
        session.agree(Text(question, {"owner": owner}), yes=yes)
        signer = tokens.open_token(
            held, known, lambda: pin(session, passphrase_fd, passphrase_file, label)
        )
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
