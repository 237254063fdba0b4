"""``keys``: keys of officers and machines."""

from __future__ import annotations

from pathlib import Path

import click

from ncen_updater.common.cli.lazy import LazyGroup, PublisherCommand, global_options, session_of
from ncen_updater.common.i18n import N_
from ncen_updater.publisher.cli.common import (
    DIRECTORY,
    passphrase_options,
    passphrases,
    show_result,
    token_options,
)

__all__ = ["COMMANDS", "import_token", "keys", "new"]

COMMANDS = {
    "new": (__name__, N_("Make an encrypted key NAME.pem and its public half NAME.pub.json.")),
    "import-token": (
        __name__,
        N_("Write the public half of a key on the token LABEL as NAME.pub.json."),
    ),
}

keys = LazyGroup(
    "keys",
    lazy=COMMANDS,
    params=global_options(config=False),
    help=N_("Keys of officers and machines."),
)


@click.command("new", cls=PublisherCommand, help=COMMANDS["new"][1])
@click.argument("name")
@click.option("--directory", type=DIRECTORY, default=Path(), help=N_("Where the two files go."))
@click.option(
    "--algorithm",
    type=click.Choice(["ed25519", "ecdsa-p256"]),
    default="ed25519",
    help=N_("Kind of key; ed25519 unless another is asked for."),
)
@passphrase_options
@click.pass_context
def new(
    context: click.Context,
    name: str,
    directory: Path,
    algorithm: str,
    passphrase_fd: int | None,
    passphrase_file: Path | None,
) -> None:
    from ncen_updater.publisher.signing.keys import Algorithm, new_key

    session = session_of(context)
    ask = passphrases(session, passphrase_fd, passphrase_file, new=True)
    pair = new_key(directory, name, ask(directory / f"{name}.pem"), Algorithm(algorithm))
    show_result(
        session,
        {"private": str(pair.private), "public": str(pair.public), "keyid": pair.keyid},
        N_("Made {private} (keep it) and {public} (give it to the ceremony)."),
    )


@click.command("import-token", cls=PublisherCommand, help=COMMANDS["import-token"][1])
@click.argument("label")
@click.argument("name")
@click.option("--directory", type=DIRECTORY, default=Path(), help=N_("Where the file goes."))
@token_options
@click.pass_context
def import_token(
    context: click.Context,
    label: str,
    name: str,
    directory: Path,
    key_id: int,
    module: Path | None,
) -> None:
    from ncen_updater.publisher.signing import tokens

    token = tokens.Token(label, key_id, tokens.find_module(module))
    path, key = tokens.import_token(token, directory, name)
    show_result(
        session_of(context),
        {"public": str(path), "keyid": key.keyid, "token": label, "key_id": key_id},
        N_("Made {public} (give it to the ceremony)."),
    )
