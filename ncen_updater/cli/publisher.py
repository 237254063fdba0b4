"""``ncen-publisher``: the release officers' program.

Thin: each command reads its arguments, calls the publisher's library, and shows what it returned.
Standard output is data, standard error is progress and errors.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from ncen_updater.cli.errors import Stopped, Unexpected
from ncen_updater.cli.program import run_program
from ncen_updater.cli.publisher_support import (
    common_options,
    passphrase_options,
    passphrases,
    show,
    show_event,
    show_findings,
    show_roles,
    show_signatures,
)
from ncen_updater.cli.session import Session
from ncen_updater.errors import ExitCode, UpdaterError
from ncen_updater.findings import Severity
from ncen_updater.i18n import N_, Text

__all__ = ["main", "program", "run"]

DIRECTORY = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False, exists=True)


def _now() -> datetime:
    return datetime.now(UTC)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def program() -> None:
    """Make, sign and publish releases."""


@program.group()
def keys() -> None:
    """Keys of officers and machines."""


@keys.command("new")
@click.argument("name")
@click.option("--directory", type=DIRECTORY, default=Path(), help="Where the two files go.")
@click.option(
    "--algorithm",
    type=click.Choice(["ed25519", "ecdsa-p256"]),
    default="ed25519",
    show_default=True,
)
@passphrase_options
@common_options
def keys_new(
    name: str,
    directory: Path,
    algorithm: str,
    passphrase_fd: int | None,
    passphrase_file: Path | None,
) -> None:
    """Make an encrypted key NAME.pem and its public half NAME.pub.json."""
    from ncen_updater.publisher.keys import Algorithm, new_key

    ask = passphrases(passphrase_fd, passphrase_file, new=True)
    pair = new_key(directory, name, ask(directory / f"{name}.pem"), Algorithm(algorithm))
    show(
        {"private": str(pair.private), "public": str(pair.public), "keyid": pair.keyid},
        N_("Made {private} (keep it) and {public} (give it to the ceremony)."),
    )


@program.command()
@click.argument("ceremony", type=FILE)
@click.option("--event", type=DIRECTORY, required=True, help="New directory of the signing event.")
@common_options
def init(ceremony: Path, event: Path) -> None:
    """Draft a new feed from a CEREMONY file: root, targets and every product."""
    from ncen_updater.publisher.ceremony import load_ceremony
    from ncen_updater.publisher.drafting import draft_first
    from ncen_updater.publisher.event import Event

    draft = draft_first(load_ceremony(ceremony), _now())
    show_event(Event.create(event, draft.title, draft.roles, None))


@program.command()
@click.argument("directory", type=DIRECTORY)
@click.option("--feed", type=DIRECTORY, help="Published feed, to compare migrations with.")
@common_options
def lint(directory: Path, feed: Path | None) -> int:
    """Say what is wrong with the release in DIRECTORY before anybody signs it."""
    from ncen_updater.publisher.feed import Feed
    from ncen_updater.publisher.lint import last_release, lint_release

    previous = last_release(Feed(feed), directory) if feed else None
    findings = lint_release(directory, previous)
    show_findings(findings)
    strict = any(finding.severity is Severity.STRICT for finding in findings)
    return ExitCode.BLOCKED if strict else ExitCode.OK


@program.command()
@click.argument("directory", type=DIRECTORY)
@click.option("--staging", type=DIRECTORY, required=True, help="Where the targets are written.")
@common_options
def build(directory: Path, staging: Path) -> None:
    """Build the release in DIRECTORY into TUF targets, the same bytes every time."""
    from ncen_updater.publisher.archive import DEFAULT_EPOCH
    from ncen_updater.publisher.build import build_release

    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    built = build_release(directory, staging, int(epoch) if epoch.isdigit() else DEFAULT_EPOCH)
    manifest = built.document.manifest
    show(
        {
            "product": manifest.product,
            "version": manifest.version,
            "targets": [ref.model_dump() for ref in built.targets],
            "unpacked_bytes": built.document.unpacked_bytes,
        },
        N_("Built {product} {version}."),
        *(f"{ref.sha256}  {ref.target}  ({ref.length} bytes)" for ref in built.targets),
    )


def _draft(feed: Path, event: Path, make: Any) -> None:  # noqa: ANN401 - a function over the state
    from ncen_updater.publisher.event import Event
    from ncen_updater.publisher.feed import Feed

    state = Feed(feed).state()
    draft = make(state)
    show_event(Event.create(event, draft.title, draft.roles, state))


_feed = click.option("--feed", type=DIRECTORY, required=True, help="The published feed.")
_event = click.option("--event", type=DIRECTORY, required=True, help="New event directory.")


@program.command()
@_feed
@_event
@click.option("--staging", type=DIRECTORY, required=True, help="What 'build' wrote.")
@common_options
def draft(feed: Path, event: Path, staging: Path) -> None:
    """Draft the publication of every release in a staging directory."""
    from ncen_updater.publisher.drafting import draft_releases

    _draft(feed, event, lambda state: draft_releases(state, staging, _now()))


@program.command()
@click.argument("version")
@_feed
@_event
@click.option("--product", default="ncen", show_default=True)
@click.option("--reason", required=True, help="Why, for operators.")
@click.option("--advice", default="", help="What sites that have it should do.")
@common_options
def withdraw(version: str, feed: Path, event: Path, product: str, reason: str, advice: str) -> None:
    """Draft the withdrawal of VERSION."""
    from ncen_updater.publisher.drafting import draft_withdrawal
    from ncen_updater.release.document import Withdrawal

    try:
        taken = Withdrawal(reason=reason, advice=advice)
    except ValueError as error:
        raise click.BadParameter("1 to 1000 characters", param_hint="--reason, --advice") from error
    _draft(feed, event, lambda state: draft_withdrawal(state, product, version, taken, _now()))


@program.command()
@click.argument("roles", nargs=-1, required=True)
@_feed
@_event
@common_options
def renew(roles: tuple[str, ...], feed: Path, event: Path) -> None:
    """Draft the same content of ROLES with a new expiry date."""
    from ncen_updater.publisher.drafting import draft_renewal

    _draft(feed, event, lambda state: draft_renewal(state, roles, _now()))


@program.command()
@click.argument("ceremony", type=FILE)
@_feed
@_event
@common_options
def rekey(ceremony: Path, feed: Path, event: Path) -> None:
    """Draft other keys, thresholds, periods or products from a changed CEREMONY file."""
    from ncen_updater.publisher.ceremony import load_ceremony
    from ncen_updater.publisher.drafting import draft_keys

    agreed = load_ceremony(ceremony)
    _draft(feed, event, lambda state: draft_keys(state, agreed, _now()))


@program.command("show")
@click.argument("event", type=DIRECTORY)
@common_options
def show_command(event: Path) -> None:
    """Say in words what EVENT changes, and who has signed."""
    from ncen_updater.publisher.event import Event

    show_event(Event.load(event))


@program.command()
@click.argument("event", type=DIRECTORY)
@click.option("--key", type=FILE, required=True, help="Your private key, NAME.pem.")
@click.option("--digest", required=True, help="Digest of the event as you were told it.")
@passphrase_options
@common_options
def sign(
    event: Path, key: Path, digest: str, passphrase_fd: int | None, passphrase_file: Path | None
) -> None:
    """Sign EVENT after reading it with 'show'. Needs no network."""
    from ncen_updater.publisher.event import Event
    from ncen_updater.publisher.keys import open_signer

    loaded = Event.load(event)
    loaded.refuse_other_digest(digest)
    signer = open_signer(key, passphrases(passphrase_fd, passphrase_file))
    written = loaded.sign(signer, digest)
    show({"files": [str(path) for path in written]}, N_("Signed; send back:"), *map(str, written))


@program.command()
@click.argument("event", type=DIRECTORY)
@click.argument("signatures", type=FILE, nargs=-1)
@common_options
def merge(event: Path, signatures: tuple[Path, ...]) -> None:
    """Take SIGNATURES of officers into EVENT and say what is still missing."""
    from ncen_updater.publisher.event import Event
    from ncen_updater.publisher.status import signature_status

    loaded = Event.load(event)
    for path in signatures:
        loaded.merge(path)
    show_signatures(signature_status(loaded))


def _online(
    snapshot_key: tuple[Path, ...],
    timestamp_key: tuple[Path, ...],
    passphrase_fd: int | None,
    passphrase_file: Path | None,
) -> dict[str, list[Any]]:
    from ncen_updater.publisher.keys import open_signer

    ask = passphrases(passphrase_fd, passphrase_file)
    return {
        "snapshot": [open_signer(path, ask) for path in snapshot_key],
        "timestamp": [open_signer(path, ask) for path in timestamp_key],
    }


_snapshot_key = click.option("--snapshot-key", type=FILE, multiple=True, required=True)
_timestamp_key = click.option("--timestamp-key", type=FILE, multiple=True, required=True)


@program.command()
@click.argument("feed", type=DIRECTORY)
@click.option("--event", type=DIRECTORY, required=True, help="The signed event.")
@click.option("--staging", type=DIRECTORY, multiple=True, help="Where new targets lie.")
@click.option("--accept-interruption", is_flag=True, help="For lost or stolen keys; see the guide.")
@_snapshot_key
@_timestamp_key
@passphrase_options
@common_options
def publish(
    feed: Path,
    event: Path,
    staging: tuple[Path, ...],
    accept_interruption: bool,
    snapshot_key: tuple[Path, ...],
    timestamp_key: tuple[Path, ...],
    passphrase_fd: int | None,
    passphrase_file: Path | None,
) -> None:
    """Publish a signed event to the directory FEED, which any static web server can serve."""
    from ncen_updater.publisher.event import Event
    from ncen_updater.publisher.feed import Feed
    from ncen_updater.publisher.publish import Publisher

    online = _online(snapshot_key, timestamp_key, passphrase_fd, passphrase_file)
    done = Publisher(Feed(feed), _now).publish(
        Event.load(event), staging, online, accept_interruption
    )
    show(dataclasses.asdict(done), N_("Published: {new_roles}"), *done.new_targets)


@program.command()
@click.argument("feed", type=DIRECTORY)
@_snapshot_key
@_timestamp_key
@passphrase_options
@common_options
def refresh(
    feed: Path,
    snapshot_key: tuple[Path, ...],
    timestamp_key: tuple[Path, ...],
    passphrase_fd: int | None,
    passphrase_file: Path | None,
) -> None:
    """Sign a new timestamp (and snapshot where due), so that the feed does not lapse."""
    from ncen_updater.publisher.feed import Feed
    from ncen_updater.publisher.publish import Publisher

    online = _online(snapshot_key, timestamp_key, passphrase_fd, passphrase_file)
    done = Publisher(Feed(feed), _now).refresh(online)
    show(dataclasses.asdict(done), N_("Signed anew: {new_roles}"))


@program.command()
@click.argument("feed", type=DIRECTORY)
@common_options
def status(feed: Path) -> None:
    """Say what FEED holds, when its roles lapse, and what is withdrawn."""
    from ncen_updater.publisher.feed import Feed
    from ncen_updater.publisher.status import feed_status

    roles, releases = feed_status(Feed(feed).state(), _now())
    show_roles(roles, releases)


def _state_now(error: UpdaterError) -> Sequence[Text]:
    if isinstance(error, Unexpected | Stopped):
        return [Text(N_("Clients see the feed as it was, or the whole new one."))]
    return [Text(N_("Nothing was published; the feed is as it was."))]


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit code."""
    return run_program(program, Session("ncen-publisher"), arguments, _state_now)


def main() -> None:
    """Be the program."""
    sys.exit(run(sys.argv[1:]))
