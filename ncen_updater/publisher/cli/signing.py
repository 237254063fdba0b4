"""``show``, ``sign``, ``merge``: what officers do with an event, away from the network."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ncen_updater.common.cli.lazy import PublisherCommand, session_of
from ncen_updater.common.cli.usage import Misuse
from ncen_updater.common.i18n import N_, Text
from ncen_updater.publisher.cli.common import (
    DIRECTORY,
    FILE,
    SIGNATURE_SLOT,
    anchor,
    builder_option,
    compare_releases,
    now,
    officer_option,
    opened_event,
    passphrase_options,
    passphrases,
    pin,
    remembered,
    root_option,
    show_event,
    show_result,
    show_signatures,
    show_wrapped,
    token_options,
    with_file,
    with_token,
)

#: An event: its directory, or the one file of it.
EVENT = click.Path(path_type=Path, exists=True)

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
@click.argument("event", type=EVENT)
@root_option
@staging_option
@builder_option
@beside_option
@officer_option
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
    officer: Path | None,
    html: Path | None,
) -> None:
    from ncen_updater.publisher.review.review import review

    known = remembered(officer)
    root, builder_key = root or known.root, builder_key or known.builder_key
    staging, feed = staging or known.staging, feed or known.feed
    with opened_event(event) as loaded:
        if root is not None:
            anchor(loaded, root)
        releases = compare_releases(loaded, staging, builder_key, unread=True)
        show_event(
            session_of(context),
            loaded,
            anchored=root is not None or not loaded.roots,
            releases=releases,
            page=review(loaded, staging, feed),
            html=html,
            place=event,
        )


@click.command(
    "sign",
    cls=PublisherCommand,
    help=N_("Say what EVENT does and what is marked in it, ask, and sign. Needs no network."),
)
@click.argument("event", type=EVENT)
@click.option("--key", type=FILE, help=N_("Your private key, NAME.pem."))
@click.option("--token", help=N_("Label of the token with your key, in place of --key."))
@token_options
@click.option(
    "--digest",
    help=N_("Digest of the event as you were told it: eight words, or 32 digits; else asked for."),
)
@root_option
@staging_option
@builder_option
@beside_option
@officer_option
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
    key_id: int | None,
    module: Path | None,
    digest: str | None,
    root: Path | None,
    staging: Path | None,
    builder_key: Path | None,
    feed: Path | None,
    officer: Path | None,
    yes: bool,
    ledger: Path | None,
    second_draft: bool,
    passphrase_fd: int | None,
    passphrase_file: Path | None,
) -> None:
    from ncen_updater.publisher.review.review import review
    from ncen_updater.publisher.review.words import short_lines, unshown
    from ncen_updater.publisher.signing.event_files import EVENT_SUFFIX, SIGNATURES_SUFFIX
    from ncen_updater.publisher.signing.keys import owner_of
    from ncen_updater.publisher.signing.ledger import LEDGER_SUFFIX, Ledger

    session, known = session_of(context), remembered(officer)
    if key is None and token is None:
        key, token = known.key, known.token
    if (key is None) == (token is None):
        raise Misuse(N_("one of --key and --token is needed"), context)
    root, builder_key = root or known.root, builder_key or known.builder_key
    staging, feed = staging or known.staging, feed or known.feed
    with opened_event(event) as loaded:
        told = digest if digest is not None else _told(context)
        loaded.refuse_other_digest(told)
        anchor(loaded, root)
        loaded.refuse_future(now())
        compare_releases(loaded, staging, builder_key, unread=False)
        page = review(loaded, staging, feed, whole=True)
        for line in (*short_lines(page), unshown(page, session.language)):
            show_wrapped(session, line)
        if key is not None:
            hand = with_file(key, passphrases(session, passphrase_fd, passphrase_file))
        else:
            from ncen_updater.publisher.signing import tokens

            label = token or ""
            driver = tokens.find_module(module or known.module)
            held = tokens.Token(label, key_id or known.key_id or SIGNATURE_SLOT, driver)
            ask = lambda: pin(session, passphrase_fd, passphrase_file, label)  # noqa: E731
            may_sign = [k for role in loaded.drafts for k in loaded.signers_of(role).values()]
            own = root or known.source  # a list of one's own lies beside what is one's own
            hand = with_token(held, may_sign, ask, own.parent if own is not None else Path())
        owner = owner_of(hand.public)
        known.refuse_other(owner)
        roles = loaded.roles_of(hand.public)
        signed = Ledger(ledger or hand.beside / f"{hand.name}{LEDGER_SUFFIX}")
        if not second_draft:
            signed.refuse_second(loaded, roles)
        session.agree(Text(N_("Sign this as {owner}?"), {"owner": owner}), yes=yes)
        signer = hand.opened()
        # Before the signature: what was written down and not signed can be signed later.
        signed.note(loaded, roles, now())
        answer = None
        if not event.is_dir():
            stem = event.name.removesuffix(EVENT_SUFFIX)
            answer = event.with_name(f"{stem}.{hand.name}{SIGNATURES_SUFFIX}")
        files = [str(path) for path in loaded.sign(signer, told, answer)]
    show_result(session, {"files": files}, N_("Signed; send back:"), *files)


def _told(context: click.Context) -> str:
    """Ask for the digest, where a person can be asked; nothing is shown that could be copied."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise Misuse(N_("--digest is needed where nobody can be asked"), context)
    words = N_("Digest of the event, as you were told it")
    told: str = click.prompt(session_of(context).text(words), err=True)
    return told


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
