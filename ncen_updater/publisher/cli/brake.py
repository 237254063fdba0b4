"""``brake``: one officer halts a release, for at most three days."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.cli.lazy import PublisherCommand, session_of
from ncen_updater.common.cli.render import format_time
from ncen_updater.common.cli.usage import Misuse
from ncen_updater.common.i18n import N_, Text
from ncen_updater.publisher.cli.common import (
    FILE,
    SIGNATURE_SLOT,
    chosen_product,
    feed_option,
    now,
    officer_option,
    passphrase_options,
    passphrases,
    pin,
    product_option,
    remembered,
    show_result,
    token_options,
    with_file,
    with_token,
)
from ncen_updater.publisher.cli.feed import online_options, online_signers

if TYPE_CHECKING:
    from datetime import datetime

    from ncen_updater.formats.rollout import BrakeStatement
    from ncen_updater.publisher.feed.feed import FeedState


@click.command(
    "brake",
    cls=PublisherCommand,
    help=N_("Halt VERSION alone, for 72 hours at most, and publish that at once."),
)
@click.argument("version")
@feed_option
@product_option
@click.option("--reason", help=N_("Why, for the sites: a few words."))
@click.option(
    "--hours",
    type=click.IntRange(1, 72),
    default=72,
    help=N_("How long; 72 unless fewer are named."),
)
@click.option("--lift", is_flag=True, help=N_("End your own brake before its time."))
@click.option("--key", type=FILE, help=N_("Your private brake key, NAME.pem."))
@click.option("--token", help=N_("Label of the token with your key, in place of --key."))
@token_options
@officer_option
@online_options
@passphrase_options
@click.option("--yes", is_flag=True, help=N_("Answer the question with yes."))
@click.pass_context
def brake(
    context: click.Context,
    version: str,
    feed: Path,
    product: str | None,
    reason: str | None,
    hours: int,
    lift: bool,
    key: Path | None,
    token: str | None,
    key_id: int | None,
    module: Path | None,
    officer: Path | None,
    snapshot_key: tuple[Path, ...],
    timestamp_key: tuple[Path, ...],
    passphrase_fd: int | None,
    passphrase_file: Path | None,
    yes: bool,
) -> None:
    from ncen_updater.feed.brake_statements import brake_keys
    from ncen_updater.formats.rollout import format_moment
    from ncen_updater.publisher.feed.brakes import lifted, statement
    from ncen_updater.publisher.feed.feed import Feed
    from ncen_updater.publisher.feed.publish import Publisher
    from ncen_updater.publisher.signing.keys import owner_of

    session, known = session_of(context), remembered(officer)
    if lift == bool(reason):
        raise Misuse(N_("--reason, or --lift"), context)
    if key is None and token is None:
        key, token = known.brake_key or known.key, None if known.brake_key else known.token
    if (key is None) == (token is None):
        raise Misuse(N_("one of --key and --token is needed"), context)
    place = Feed(feed)
    state = place.state()
    name = chosen_product(state, product)
    ask = passphrases(session, passphrase_fd, passphrase_file)
    if key is not None:
        hand = with_file(key, ask)
    else:
        from ncen_updater.publisher.signing import tokens

        label = token or ""
        driver = tokens.find_module(module or known.module)
        held = tokens.Token(label, key_id or known.key_id or SIGNATURE_SLOT, driver)
        hand = with_token(
            held,
            list(brake_keys(state.root.signed).values()),
            lambda: pin(session, passphrase_fd, passphrase_file, label),
            Path(),
        )
    owner = owner_of(hand.public)
    words = N_("End the brake of {owner} on {product} {version}?")
    if not lift:
        words = N_("Brake {product} {version} as {owner} for {hours} hours, at every site?")
    values = {"owner": owner, "product": name, "version": version, "hours": hours}
    session.agree(Text(words, values), yes=yes)
    signer = hand.opened()
    online = online_signers(ask, snapshot_key, timestamp_key)
    made: list[BrakeStatement] = []

    def sign(state: FeedState, moment: datetime) -> BrakeStatement:
        if lift:
            made.append(lifted(state, signer, name, version, moment))
        else:
            made.append(statement(state, signer, name, version, reason or "", moment, hours))
        return made[-1]

    with durable.readable_by_all():
        Publisher(place, now).brake(sign, online)
    said = N_("{product} {version} is braked no longer by {owner}.")
    if not lift:
        said = N_(
            "{product} {version} is braked by {owner} until {end}: a site that looks begins no"
            " upgrade to it. It ends by itself; let the officers sign a halt or a withdrawal by"
            " then."
        )
    show_result(
        session,
        {
            "product": name, "version": version, "owner": owner,
            "until": format_moment(made[-1].until), "reason": made[-1].reason, "lifted": lift,
        },
        said,
        end=format_time(made[-1].until),
    )  # fmt: skip
