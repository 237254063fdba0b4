"""``wave``, ``halt``, ``channel``, ``audience``, ``retire``: which sites install what, and when.

Each command drafts a signing event, like every decision of the signers.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.cli.lazy import IntegerRange, PublisherCommand, get_session
from ncen_updater.common.cli.render import format_time
from ncen_updater.common.cli.usage import CommandUsageError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.publisher.cli.feed import add_online_options, open_online_signers
from ncen_updater.publisher.cli.options import (
    DIRECTORY_PATH,
    FILE_PATH,
    add_passphrase_options,
    add_token_options,
    ask_pin,
    choose_product,
    feed_option,
    get_time,
    load_key_file,
    load_signer_settings,
    load_token_key,
    make_passphrase_prompt,
    parse_publish_condition,
    parse_waves,
    product_option,
    regions_option,
    show_result,
    signer_option,
    versioned_draft,
    write_event,
)

if TYPE_CHECKING:
    from datetime import datetime

    from ncen_updater.formats.rollout import EmergencyHaltStatement
    from ncen_updater.publisher.cli.options import DraftMaker
    from ncen_updater.publisher.feed.feed_directory import FeedState
    from ncen_updater.publisher.signing.draft import Draft


@click.command(
    "wave",
    cls=PublisherCommand,
    help=N_(
        "Draft the staged rollout of VERSION and end its halt; a WAVE is TIME=PERCENT or"
        " TIME=PERCENT:COUNTRIES, such as 2026-12-01T08:00:00Z=100:SN,MU"
    ),
)
@versioned_draft
@click.argument("waves", nargs=-1, metavar="WAVE...")
@click.option("--add", is_flag=True, help=N_("Add to the existing waves"))
@click.option("--at-once", is_flag=True, help=N_("All sites at once"))
@regions_option
@click.option(
    "--after",
    metavar="N:COUNTRIES",
    help=N_(
        "Publish only after sites in so many of these countries report that the release completed"
        " its soak period, such as 4:@leaders"
    ),
)
def wave(
    version: str,
    waves: tuple[str, ...],
    add: bool,
    at_once: bool,
    regions: Path | None,
    after: str | None,
) -> DraftMaker:
    from ncen_updater.publisher.signing.draft import draft_waves

    if at_once == bool(waves) or (add and at_once):
        raise CommandUsageError(N_("give waves or --at-once"))
    schedule = parse_waves(waves, regions)

    def draft(state: FeedState, product: str) -> Draft:
        condition = parse_publish_condition(after, product, version, regions) if after else None
        return draft_waves(
            state, product, version, schedule, get_time(), add=add, condition=condition
        )

    return draft


@click.command(
    "resume-wave",
    cls=PublisherCommand,
    help=N_("Draft the end of a halt"),
)
@versioned_draft
def resume_wave(version: str) -> DraftMaker:
    from ncen_updater.publisher.signing.draft import draft_halt_end

    return lambda s, p: draft_halt_end(s, p, version, get_time())


@click.command(
    "channel", cls=PublisherCommand, help=N_("Draft a change of the channel of a release")
)
@versioned_draft
@click.argument("channel_name", metavar="CHANNEL", type=click.Choice(["stable", "preview"]))
def channel(version: str, channel_name: str) -> DraftMaker:
    from ncen_updater.formats.manifest import Channel
    from ncen_updater.publisher.signing.draft import draft_channel

    chosen = Channel(channel_name)
    return lambda s, p: draft_channel(s, p, version, chosen, get_time())


@click.command(
    "audience",
    cls=PublisherCommand,
    help=N_("Draft the countries to which a release is offered"),
)
@versioned_draft
@click.argument("countries", nargs=-1, metavar="COUNTRY...")
@click.option("--all", "everybody", is_flag=True, help=N_("All countries"))
def audience(version: str, countries: tuple[str, ...], everybody: bool) -> DraftMaker:
    from ncen_updater.publisher.signing.draft import draft_audience, find_invalid_countries

    if everybody == bool(countries):
        raise CommandUsageError(N_("give countries or --all"))
    if any(len(c) != 2 or not (c.isascii() and c.isalpha() and c.isupper()) for c in countries):
        raise CommandUsageError(N_("use two-letter codes, such as SN"), hint="COUNTRY")
    wrong = find_invalid_countries(countries)
    if wrong:
        raise CommandUsageError(N_("unknown country {country}"), hint="COUNTRY", country=wrong[0])
    return lambda s, p: draft_audience(s, p, version, countries, get_time())


@click.command(
    "retire",
    cls=PublisherCommand,
    help=N_("Draft the retirement of releases older than VERSION that no site needs"),
)
@versioned_draft
def retire(version: str) -> DraftMaker:
    from ncen_updater.publisher.signing.draft import draft_retirement

    return lambda s, p: draft_retirement(s, p, version, get_time())


#: Maximum duration of an emergency halt.
MAX_HOURS = 72


@click.command(
    "halt",
    cls=PublisherCommand,
    help=N_(
        "Draft a halt of the rollout of VERSION. With --emergency, publish it immediately with"
        " one signature, for at most 72 hours."
    ),
)
@click.argument("version")
@feed_option
@product_option
@click.option("--event", type=DIRECTORY_PATH, help=N_("New directory for the signing event"))
@click.option("--reason", help=N_("Reason shown to operators"))
@click.option("--emergency", is_flag=True, help=N_("Halt immediately, with one signature"))
@click.option(
    "--hours",
    type=IntegerRange(1, MAX_HOURS),
    help=N_("Duration in hours (default and maximum: 72)"),
)
@click.option("--lift", is_flag=True, help=N_("End your emergency halt early"))
@click.option("--key", type=FILE_PATH, help=N_("Your private emergency halt key, NAME.pem"))
@click.option("--token", help=N_("Label of the token with your key, instead of --key"))
@add_token_options
@signer_option
@functools.partial(add_online_options, required=False)
@add_passphrase_options
@click.option("--yes", is_flag=True, help=N_("Skip the confirmation prompt"))
@click.pass_context
def halt(
    context: click.Context,
    /,
    version: str,
    feed: Path,
    product: str | None,
    event: Path | None,
    reason: str | None,
    emergency: bool,
    **options: Any,  # noqa: ANN401 - of the emergency alone
) -> None:
    if emergency:
        if event is not None:
            raise CommandUsageError(N_("--event is not allowed with --emergency"), context)
        _publish_emergency_halt(context, version, feed, product, reason, **options)
        return
    for option in context.command.params:
        if option.name in options and options[option.name] not in (None, False, ()):
            raise CommandUsageError(
                N_("{option} requires --emergency"), context, option=option.opts[0]
            )
    if event is None or reason is None:
        raise CommandUsageError(N_("give --event and --reason, or --emergency"), context)
    _draft_halt(context, version, feed, product, event, reason)


def _draft_halt(
    context: click.Context,
    version: str,
    feed: Path,
    product: str | None,
    event: Path,
    reason: str,
) -> None:
    from ncen_updater.formats.rollout import ReleaseHalt
    from ncen_updater.publisher.feed.feed_directory import FeedDirectory
    from ncen_updater.publisher.signing.draft import draft_halt

    try:
        halted = ReleaseHalt(reason=reason)
    except ValueError as error:
        raise CommandUsageError(N_("must have 1 to 1000 characters"), hint="--reason") from error
    state = FeedDirectory(feed).read_state()
    name = choose_product(state, product)
    write_event(context, event, draft_halt(state, name, version, halted, get_time()), state)


def _publish_emergency_halt(
    context: click.Context,
    version: str,
    feed: Path,
    product: str | None,
    reason: str | None,
    hours: int | None,
    lift: bool,
    key: Path | None,
    token: str | None,
    key_id: int | None,
    module: Path | None,
    signer: Path | None,
    snapshot_key: tuple[Path, ...],
    timestamp_key: tuple[Path, ...],
    passphrase_fd: int | None,
    passphrase_file: Path | None,
    yes: bool,
) -> None:
    from ncen_updater.feed.emergency_halt_statements import read_emergency_halt_keys
    from ncen_updater.formats.rollout import format_utc_time
    from ncen_updater.publisher.distribute.emergency_halts import (
        sign_emergency_halt,
        sign_emergency_halt_end,
    )
    from ncen_updater.publisher.distribute.publishing import Publisher
    from ncen_updater.publisher.feed.feed_directory import FeedDirectory
    from ncen_updater.publisher.signing.keys import get_key_owner

    session, known = get_session(context), load_signer_settings(signer)
    hours = hours or MAX_HOURS
    if lift == bool(reason):
        raise CommandUsageError(N_("give --reason or --lift"), context)
    if key is None and token is None:
        key, token = (
            known.emergency_halt_key or known.key,
            None if known.emergency_halt_key else known.token,
        )
    if (key is None) == (token is None):
        raise CommandUsageError(N_("give --key or --token"), context)
    if not (snapshot_key and timestamp_key):
        raise CommandUsageError(N_("give --snapshot-key and --timestamp-key"), context)
    place = FeedDirectory(feed)
    state = place.read_state()
    name = choose_product(state, product)
    ask = make_passphrase_prompt(session, passphrase_fd, passphrase_file)
    if key is not None:
        signing_key = load_key_file(key, ask)
    else:
        signing_key = load_token_key(
            token or "",
            key_id or known.key_id,
            module or known.module,
            list(read_emergency_halt_keys(state.root.signed).values()),
            functools.partial(ask_pin, session, passphrase_fd, passphrase_file),
            Path(),
        )
    owner = get_key_owner(signing_key.public)
    words = N_("End the emergency halt of {product} {version} by {owner}?")
    if not lift:
        words = N_(
            "Emergency halt of {product} {version} as {owner} for {hours} hours on all sites?"
        )
    values = {"owner": owner, "product": name, "version": version, "hours": hours}
    session.ask_confirmation(LazyText(words, values), assume_yes=yes)
    signer = signing_key.open_signer()
    online = open_online_signers(ask, snapshot_key, timestamp_key)
    made: list[EmergencyHaltStatement] = []

    def sign(state: FeedState, moment: datetime) -> EmergencyHaltStatement:
        if lift:
            made.append(sign_emergency_halt_end(state, signer, name, version, moment))
        else:
            made.append(
                sign_emergency_halt(state, signer, name, version, reason or "", moment, hours)
            )
        return made[-1]

    with durable.make_world_readable():
        Publisher(place, get_time).publish_emergency_halt(sign, online)
    message = N_("Emergency halt of {product} {version} by {owner} ended.")
    if not lift:
        message = N_(
            "Emergency halt of {product} {version} by {owner} until {end}. Have a halt or a"
            " withdrawal signed before it expires."
        )
    show_result(
        session,
        {
            "product": name, "version": version, "owner": owner,
            "until": format_utc_time(made[-1].until), "reason": made[-1].reason, "lifted": lift,
        },
        message,
        end=format_time(made[-1].until),
    )  # fmt: skip
