"""``show``, ``sign``, ``merge``: what officers do with an event, away from the network."""

from __future__ import annotations

from pathlib import Path

import click

from ncen_updater.common.cli.lazy import PublisherCommand, session_of
from ncen_updater.common.i18n import N_
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


@click.command(
    "show",
    cls=PublisherCommand,
    help=N_("Say in words what EVENT changes, and who has signed."),
)
@click.argument("event", type=DIRECTORY)
@root_option
@staging_option
@builder_option
@click.pass_context
def show(
    context: click.Context,
    event: Path,
    root: Path | None,
    staging: Path | None,
    builder_key: Path | None,
) -> None:
    from ncen_updater.publisher.signing.event import SigningEvent

    loaded = SigningEvent.load(event)
    if root is not None:
        anchor(loaded, root)
    releases = compare_releases(loaded, staging, builder_key, unread=True)
    anchored = root is not None or not loaded.roots
    show_event(session_of(context), loaded, anchored=anchored, releases=releases)


@click.command(
    "sign",
    cls=PublisherCommand,
    help=N_("Sign EVENT after reading it with 'show'. Needs no network."),
)
@click.argument("event", type=DIRECTORY)
@click.option("--key", type=FILE, help=N_("Your private key, NAME.pem."))
@click.option("--token", help=N_("Label of the token with your key, in place of --key."))
@token_options
@click.option("--digest", required=True, help=N_("Digest of the event as you were told it."))
@root_option
@staging_option
@builder_option
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
    passphrase_fd: int | None,
    passphrase_file: Path | None,
) -> None:
    from ncen_updater.publisher.signing.event import SigningEvent
    from ncen_updater.publisher.signing.keys import open_signer

    session = session_of(context)
    if (key is None) == (token is None):
        raise click.UsageError("one of --key and --token is needed", context)
    loaded = SigningEvent.load(event)
    loaded.refuse_other_digest(digest)
    anchor(loaded, root)
    loaded.refuse_future(now())
    compare_releases(loaded, staging, builder_key, unread=False)
    if key is not None:
        signer = open_signer(key, passphrases(session, passphrase_fd, passphrase_file))
    else:
        from ncen_updater.publisher.signing import tokens

        label = token or ""
        signer = tokens.open_token(
            tokens.Token(label, key_id, tokens.find_module(module)),
            [known for role in loaded.drafts for known in loaded.signers_of(role).values()],
            lambda: pin(session, passphrase_fd, passphrase_file, label),
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
