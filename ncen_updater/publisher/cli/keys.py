"""``keys``: keys of officers and machines."""

from __future__ import annotations

from pathlib import Path

import click

from ncen_updater.common.cli.lazy import (
    LazyGroup,
    PublisherCommand,
    commands,
    global_options,
    session_of,
)
from ncen_updater.common.cli.render import grouped
from ncen_updater.common.i18n import N_, Text
from ncen_updater.publisher.cli.common import (
    DIRECTORY,
    FILE,
    passphrase_options,
    passphrases,
    show_line,
    show_result,
    token_options,
)

__all__ = ["COMMANDS", "import_token", "keys", "new", "show"]

COMMANDS = commands(
    "ncen_updater.publisher.cli",
    {
        "new": ("keys", N_("Make an encrypted key NAME.pem and its public half NAME.pub.json.")),
        "import-token": (
            "keys",
            N_("Write the public half of a key on the token LABEL as NAME.pub.json."),
        ),
        "show": (
            "keys",
            N_("Say the fingerprints of public keys and of roots in groups, to be read out."),
        ),
    },
)

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


@click.command("show", cls=PublisherCommand, help=COMMANDS["show"][1])
@click.argument("files", nargs=-1, required=True, type=FILE)
@click.pass_context
def show(context: click.Context, files: tuple[Path, ...]) -> None:
    from ncen_updater.common.canonical_json import sha256_hex
    from ncen_updater.publisher.signing.event_files import read_metadata
    from ncen_updater.publisher.signing.keys import (
        PUBLIC_SUFFIX,
        fingerprint,
        load_public_key,
        owner_of,
    )

    session, found = session_of(context), []
    for path in files:
        if path.name.endswith(PUBLIC_SUFFIX):
            version, held = None, [("", load_public_key(path))]
        else:
            root = read_metadata(path, "root").signed
            version = root.version
            held = [(name, root.keys[i]) for name, role in root.roles.items() for i in role.keyids]
        digest = sha256_hex(path.read_bytes())
        show_line(session, str(path))
        if version is not None:
            words = N_("root version {version}, digest of the file {digest}")
            values = {"version": version, "digest": grouped(digest)}
            show_line(session, Text(words, values), "  ")
        keys_of_it = []
        for role, key in held:
            row = {
                "role": role, "owner": owner_of(key), "kind": key.keytype,
                "fingerprint": fingerprint(key),
            }  # fmt: skip
            words = N_("{owner}: {kind} key {fingerprint}")
            if role:
                words = N_("{role}, {owner}: {kind} key {fingerprint}")
            values = {**row, "fingerprint": grouped(row["fingerprint"])}
            show_line(session, Text(words, values), "  ")
            keys_of_it.append(row)
        found.append({"file": str(path), "sha256": digest, "root": version, "keys": keys_of_it})
    session.finish({"files": found})
