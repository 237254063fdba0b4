"""``init``, ``rekey``, ``renew``, ``keys``: holders of the roles; keys of signers and machines."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path

import click
from securesystemslib.signer import Key

from ncen_updater.common.cli.lazy import LazyGroup, make_command_table, make_global_options
from ncen_updater.common.cli.render import encode_as_words, group_digest
from ncen_updater.common.cli.session import CliSession
from ncen_updater.common.cli.usage import GIVE_ONE, OPTION_EXCLUDED, CommandUsageError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.json_records import compute_sha256
from ncen_updater.feed.emergency_halt_statements import read_emergency_halt_keys
from ncen_updater.publisher.cli.options import (
    DIRECTORY_PATH,
    FILE_PATH,
    PassphraseSource,
    TokenSlot,
    event_option,
    feed_option,
    get_time,
    has_terminal,
    load_settings,
    passphrase_options,
    publisher_command,
    show_line,
    show_result,
    signer_option,
    token_options,
    write_event,
)
from ncen_updater.publisher.distribute.feed_status import list_due_roles
from ncen_updater.publisher.feed.feed_directory import FeedDirectory
from ncen_updater.publisher.signing import tokens
from ncen_updater.publisher.signing.ceremony import Ceremony, load_ceremony
from ncen_updater.publisher.signing.draft import (
    draft_initial_roles,
    draft_key_change,
    draft_renewal,
)
from ncen_updater.publisher.signing.event_files import read_own_root
from ncen_updater.publisher.signing.keys import (
    MIN_PASSPHRASE_CHARS,
    PUBLIC_SUFFIX,
    check_new_key_name,
    compute_fingerprint,
    create_key,
    get_key_owner,
    get_public_path,
    load_public_key,
    set_key_owner,
)
from ncen_updater.publisher.signing.signer_settings import SignerSettings
from ncen_updater.publisher.signing.signing_event import SigningEvent

PASSPHRASE_WORDS = 6
#: Use of a public key file, since its name does not show it.
KEY_FILE_USE = N_(
    "The public key goes into the ceremony (ceremony.toml); that of a builder goes to the"
    " drafter and each signer."
)

COMMANDS = make_command_table(
    "ncen_updater.publisher.cli",
    {
        "new": ("keys", N_("Create an encrypted key NAME.pem and its public key NAME.pub.json")),
        "import-token": ("keys", N_("Write the public key of token LABEL as NAME.pub.json")),
        "show": ("keys", N_("Show the fingerprints of public keys and root metadata")),
    },
)

keys = LazyGroup(
    "keys",
    lazy=COMMANDS,
    params=make_global_options(config=False),
    help=N_("Create and show signing keys"),
)


@publisher_command()
@click.argument("name")
@click.option("--directory", type=DIRECTORY_PATH, default=Path(), help=N_("Output directory"))
@click.option(
    "--generate",
    is_flag=True,
    help=N_("Generate a passphrase of six words and show it once"),
)
@passphrase_options
def new(
    session: CliSession,
    name: str,
    directory: Path,
    generate: bool,
    passphrases: PassphraseSource,
) -> None:
    if generate and passphrases.file is not None:
        raise CommandUsageError(OPTION_EXCLUDED, option="--generate", other="--passphrase-file")
    check_new_key_name(directory, name)
    if generate:
        secret = encode_as_words(secrets.token_hex(2 * PASSPHRASE_WORDS))
    else:
        if passphrases.file is None and has_terminal():
            advice = N_("At least {count} characters. To generate a passphrase, add --generate.")
            session.print_message(LazyText(advice, {"count": MIN_PASSPHRASE_CHARS}))
        secret = passphrases.make_prompt(session, new=True)(directory / f"{name}.pem")
    pair = create_key(directory, name, secret)
    if generate:
        words = N_("Passphrase, shown only once: {secret}")
        session.print_message(LazyText(words, {"secret": secret}))
    fingerprint = compute_fingerprint(load_public_key(pair.public))
    show_result(
        session,
        {
            "private": str(pair.private),
            "public": str(pair.public),
            "keyid": pair.keyid,
            "fingerprint": fingerprint,
        },
        N_("Created {private} (keep it secret) and {public}."),
        _format_fingerprint(session, fingerprint),
        session.translate(KEY_FILE_USE),
    )


def _format_fingerprint(session: CliSession, fingerprint: str) -> str:
    words = N_("Fingerprint, to compare with the other signers: {fingerprint}")
    return session.translate(words, fingerprint=group_digest(fingerprint))


@publisher_command()
@click.argument("label")
@click.argument("name")
@click.option("--directory", type=DIRECTORY_PATH, default=Path(), help=N_("Output directory"))
@token_options
def import_token(
    session: CliSession,
    label: str,
    name: str,
    directory: Path,
    slot: TokenSlot,
) -> None:
    token = slot.make_token(label, SignerSettings())
    path, key = tokens.import_token(token, directory, name)
    fingerprint = compute_fingerprint(key)
    show_result(
        session,
        {
            "public": str(path),
            "keyid": key.keyid,
            "token": label,
            "key_id": token.key_id,
            "fingerprint": fingerprint,
        },
        N_("Created {public} (for the ceremony)."),
        _format_fingerprint(session, fingerprint),
    )


@publisher_command()
@click.argument("files", nargs=-1, type=FILE_PATH)
@click.option("--token", help=N_("Label of a token: show the fingerprint of its key"))
@token_options
@signer_option
def show(
    session: CliSession,
    files: tuple[Path, ...],
    token: str | None,
    slot: TokenSlot,
    signer: Path | None,
) -> None:
    found: list[dict[str, object]] = []
    held: list[tuple[str, Key]]
    known = SignerSettings()
    if not files and token is None:
        known = load_settings(signer)
        token = known.token
        paths = (known.key and get_public_path(known.key), known.root)
        files = tuple(path for path in paths if path is not None)
    if not files and token is None:
        raise CommandUsageError(GIVE_ONE, option="FILES, --token", other="--signer")
    if token is not None:
        held = [("", set_key_owner(tokens.read_public_key(slot.make_token(token, known)), token))]
        rows = _show_keys(session, held, "")
        found.append({"file": None, "sha256": None, "root": None, "keys": rows})
    for path in files:
        if path.name.endswith(PUBLIC_SUFFIX):
            version, held = None, [("", load_public_key(path))]
        else:
            root = read_own_root(path).signed
            version = root.version
            held = [(name, root.keys[i]) for name, role in root.roles.items() for i in role.keyids]
            held += [("emergency halt", key) for key in read_emergency_halt_keys(root).values()]
        digest = compute_sha256(path.read_bytes())
        show_line(session, str(path))
        if version is not None:
            words = N_("root version {version}, file digest {digest}")
            values = {"version": version, "digest": group_digest(digest)}
            show_line(session, LazyText(words, values), "  ")
            spoken = {"spoken": encode_as_words(digest)}
            show_line(session, LazyText(N_("file digest in words: {spoken}"), spoken), "  ")
        rows = _show_keys(session, held, "  ")
        found.append({"file": str(path), "sha256": digest, "root": version, "keys": rows})
    session.write_output({"files": found})


def _show_keys(
    session: CliSession, held: Sequence[tuple[str, Key]], indent: str
) -> list[dict[str, str]]:
    """Show a line for each key; return the same as JSON."""
    rows = []
    for role, key in held:
        fingerprint = compute_fingerprint(key)
        row = {"role": role, "owner": get_key_owner(key), "kind": key.keytype}
        named = f"{role}, {row['owner']}" if role else row["owner"]
        values = {**row, "owner": named, "fingerprint": group_digest(fingerprint)}
        show_line(session, LazyText(N_("{owner}: {kind} key {fingerprint}"), values), indent)
        rows.append({**row, "fingerprint": fingerprint})
    return rows


_one_signature = click.option(
    "--one-signature",
    is_flag=True,
    help=N_("Allow a signature threshold of 1, as set in the CEREMONY file"),
)


def _load_agreed(ceremony: Path, *, one_signature: bool) -> Ceremony:
    loaded = load_ceremony(ceremony)
    if not one_signature:
        loaded.refuse_one_signature()
    return loaded


@publisher_command()
@click.argument("ceremony", type=FILE_PATH)
@event_option
@_one_signature
def init(session: CliSession, ceremony: Path, event: Path, one_signature: bool) -> None:
    agreed = _load_agreed(ceremony, one_signature=one_signature)
    write_event(session, event, draft_initial_roles(agreed, get_time()), None)


@publisher_command()
@click.argument("ceremony", type=FILE_PATH)
@feed_option
@event_option
@_one_signature
def rekey(
    session: CliSession, ceremony: Path, feed: Path, event: Path, one_signature: bool
) -> None:
    agreed = _load_agreed(ceremony, one_signature=one_signature)
    state = FeedDirectory(feed).read_state()
    write_event(session, event, draft_key_change(state, agreed, get_time()), state)


@publisher_command()
@click.argument("roles", nargs=-1)
@feed_option
@event_option
@click.option(
    "--due",
    is_flag=True,
    help=N_("Renew all roles that are due, instead of ROLES (for a timer)"),
)
def renew(session: CliSession, roles: tuple[str, ...], feed: Path, event: Path, due: bool) -> None:
    if due == bool(roles):
        raise CommandUsageError(GIVE_ONE, option="ROLES", other="--due")
    state = FeedDirectory(feed).read_state()
    if due:
        roles = list_due_roles(state, get_time())
        opened = SigningEvent.load(event) if roles and (event / "event.json").exists() else None
        if not roles or (opened is not None and opened.is_renewal_of(state, roles)):
            words = N_("No role is due for renewal.")
            if roles:
                words = N_("{event} already renews {roles}")
            values = {"event": str(event) if roles else None, "roles": roles}
            show_result(session, values, words)
            return
    write_event(session, event, draft_renewal(state, roles, get_time()), state)
