"""``wave``, ``halt``, ``channel``, ``audience``, ``retire``: which sites install what, and when.

Each command drafts a signing event, like every decision of the signers.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.cli.render import format_time
from ncen_updater.common.cli.session import CliSession
from ncen_updater.common.cli.usage import (
    GIVE_ONE,
    OPTION_EXCLUDED,
    OPTION_NEEDED,
    CommandUsageError,
)
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.feed.emergency_halt_statements import read_emergency_halt_keys
from ncen_updater.formats.manifest import Channel
from ncen_updater.formats.rollout import (
    EmergencyHaltStatement,
    ReleaseHalt,
    find_invalid_countries,
    format_utc_time,
)
from ncen_updater.publisher.cli.options import (
    DIRECTORY_PATH,
    DraftMaker,
    KeyChoice,
    OnlineKeyFiles,
    PassphraseSource,
    TokenSlot,
    choose_product,
    draft_command,
    feed_option,
    get_time,
    key_options,
    load_settings,
    online_options,
    parse_publish_condition,
    parse_waves,
    passphrase_options,
    product_option,
    publisher_command,
    regions_option,
    require_words,
    show_result,
    signer_option,
    token_options,
    write_event,
    yes_option,
)
from ncen_updater.publisher.distribute.emergency_halts import (
    sign_emergency_halt,
    sign_emergency_halt_end,
)
from ncen_updater.publisher.distribute.publishing import Publisher
from ncen_updater.publisher.feed.feed_directory import FeedDirectory, FeedState
from ncen_updater.publisher.signing.draft import (
    Draft,
    OfferSubject,
    draft_offer_change,
    draft_retirement,
    draft_waves,
)
from ncen_updater.publisher.signing.keys import get_key_owner


@draft_command(
    N_(
        "Draft the staged rollout of VERSION and end its halt; a WAVE is TIME=PERCENT or"
        " TIME=PERCENT:COUNTRIES, such as 2030-12-03T08:00:00Z=100:SN,MU"
    )
)
@click.argument("waves", nargs=-1, metavar="WAVE...")
@click.option("--add", is_flag=True, help=N_("Add to the existing waves"))
@click.option("--at-once", is_flag=True, help=N_("All sites at once"))
@regions_option
@click.option(
    "--after",
    metavar="N:COUNTRIES",
    help=N_(
        "Publish only once N of these countries have reported that the release completed its soak"
        " period there, such as 4:@leaders"
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
    if at_once == bool(waves) or (add and at_once):
        raise CommandUsageError(GIVE_ONE, option="WAVE", other="--at-once")
    schedule = parse_waves(waves, regions)

    def draft(state: FeedState, product: str) -> Draft:
        condition = parse_publish_condition(after, product, version, regions) if after else None
        return draft_waves(
            state, product, version, schedule, get_time(), add=add, condition=condition
        )

    return draft


@draft_command()
def resume_wave(version: str) -> DraftMaker:
    return lambda state, product: draft_offer_change(
        state, product, version, OfferSubject.HALT_END, {"halted": None}, get_time()
    )


@draft_command()
@click.argument("channel_name", metavar="CHANNEL", type=click.Choice(["stable", "preview"]))
def channel(version: str, channel_name: str) -> DraftMaker:
    changes = {"channel": Channel(channel_name)}
    return lambda state, product: draft_offer_change(
        state, product, version, OfferSubject.CHANNEL, changes, get_time()
    )


@draft_command()
@click.argument("countries", nargs=-1, metavar="COUNTRY...")
@click.option("--all", "everybody", is_flag=True, help=N_("All countries"))
def audience(version: str, countries: tuple[str, ...], everybody: bool) -> DraftMaker:
    if everybody == bool(countries):
        raise CommandUsageError(GIVE_ONE, option="COUNTRY", other="--all")
    wrong = find_invalid_countries(countries)
    if wrong:
        raise CommandUsageError(N_("unknown country {country}"), hint="COUNTRY", country=wrong[0])
    changes = {"countries": tuple(sorted(set(countries)))}
    return lambda state, product: draft_offer_change(
        state, product, version, OfferSubject.COUNTRIES, changes, get_time()
    )


@draft_command(N_("Draft the retirement of releases older than VERSION that no site needs"))
def retire(version: str) -> DraftMaker:
    return lambda state, product: draft_retirement(state, product, version, get_time())


#: Parameters that a draft of a halt has, too.
DRAFT_PARAMETERS = frozenset({"version", "feed", "product", "event", "reason", "emergency"})


@publisher_command(
    N_(
        "Draft a halt of the rollout of VERSION. With --emergency, publish it immediately with"
        " one signature, for at most 72 hours."
    )
)
@click.argument("version")
@feed_option
@product_option
@click.option("--event", type=DIRECTORY_PATH, help=N_("New directory for the signing event"))
@click.option("--reason", callback=require_words, help=N_("Reason shown to operators"))
@click.option("--emergency", is_flag=True, help=N_("Halt immediately, with one signature"))
@click.option("--lift", is_flag=True, help=N_("End your emergency halt early"))
@key_options
@token_options
@signer_option
@online_options(required=False)
@passphrase_options
@yes_option
@click.pass_context
def halt(
    context: click.Context,
    session: CliSession,
    version: str,
    feed: Path,
    product: str | None,
    event: Path | None,
    reason: str | None,
    emergency: bool,
    lift: bool,
    choice: KeyChoice,
    slot: TokenSlot,
    signer: Path | None,
    online: OnlineKeyFiles,
    passphrases: PassphraseSource,
    yes: bool,
) -> None:
    place = FeedDirectory(feed)
    if not emergency:
        for option in context.command.params:
            name = option.name or ""
            if name not in DRAFT_PARAMETERS and context.params.get(name):
                raise CommandUsageError(OPTION_NEEDED, option=option.opts[0], other="--emergency")
        if event is None or reason is None:
            raise CommandUsageError(GIVE_ONE, option="--event and --reason", other="--emergency")
        _draft_halt(session, version, place, product, event, reason)
        return
    if event is not None:
        raise CommandUsageError(OPTION_EXCLUDED, option="--event", other="--emergency")
    if lift == bool(reason):
        raise CommandUsageError(GIVE_ONE, option="--reason", other="--lift")
    known = load_settings(signer)
    if known.emergency_halt_key is not None:
        choice = choice.complete(known.emergency_halt_key, None)
    choice = choice.complete(known.key, known.token)
    if not (online.snapshot_key and online.timestamp_key):
        raise CommandUsageError(
            OPTION_NEEDED, option="--emergency", other="--snapshot-key, --timestamp-key"
        )
    state = place.read_state()
    name = choose_product(state, product)
    may_halt = list(read_emergency_halt_keys(state.root.signed).values())
    hand = choice.load(session, passphrases, slot, known, may_halt)
    owner = get_key_owner(hand.public)
    words = N_("End the emergency halt of {product} {version} by {owner}?")
    if not lift:
        words = N_("Emergency halt of {product} {version} as {owner} for 72 hours on all sites?")
    values = {"owner": owner, "product": name, "version": version}
    session.ask_confirmation(LazyText(words, values), assume_yes=yes)
    key = hand.open_signer()
    signers = online.open(passphrases.make_prompt(session))
    made: list[EmergencyHaltStatement] = []

    def sign(state: FeedState, moment: datetime) -> EmergencyHaltStatement:
        if lift:
            made.append(sign_emergency_halt_end(state, key, name, version, moment))
        else:
            made.append(sign_emergency_halt(state, key, name, version, reason or "", moment))
        return made[-1]

    with durable.make_world_readable():
        Publisher(place, get_time).publish_emergency_halt(sign, signers)
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


def _draft_halt(
    session: CliSession,
    version: str,
    place: FeedDirectory,
    product: str | None,
    event: Path,
    reason: str,
) -> None:
    changes = {"halted": ReleaseHalt(reason=reason)}
    state = place.read_state()
    name = choose_product(state, product)
    draft = draft_offer_change(state, name, version, OfferSubject.HALT, changes, get_time())
    write_event(session, event, draft, state)
