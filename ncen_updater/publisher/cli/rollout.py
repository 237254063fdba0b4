"""``wave``, ``halt``, ``resume-wave``, ``channel``, ``audience``: who may have a release, and when.

Each drafts a signing event, like everything that the officers decide.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ncen_updater.common.cli.lazy import PublisherCommand, session_of
from ncen_updater.common.cli.usage import Misuse
from ncen_updater.common.i18n import N_
from ncen_updater.publisher.cli.common import (
    chosen_product,
    event_option,
    feed_option,
    now,
    parse_wave,
    product_option,
    show_event,
)

if TYPE_CHECKING:
    from ncen_updater.publisher.feed.feed import FeedState
    from ncen_updater.publisher.signing.draft import Draft


def _draft(
    context: click.Context,
    feed: Path,
    event: Path,
    product: str | None,
    make: Callable[[FeedState, str], Draft],
) -> None:
    from ncen_updater.publisher.feed.feed import Feed
    from ncen_updater.publisher.signing.event import SigningEvent

    state = Feed(feed).state()
    made = make(state, chosen_product(state, product))
    show_event(session_of(context), SigningEvent.create(event, made.title, made.roles, state))


def _targeted(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (product_option, event_option, feed_option, click.argument("version")):
        command = option(command)
    return command


@click.command(
    "wave",
    cls=PublisherCommand,
    help=N_(
        "Draft the schedule of VERSION: each WAVE is TIME=PERCENT or TIME=PERCENT:COUNTRIES, such "
        "as 2026-12-01T08:00:00Z=10 or 2026-12-01T08:00:00Z=100:SN,MU. It lifts a halt."
    ),
)
@_targeted
@click.argument("waves", nargs=-1, metavar="WAVE...")
@click.option("--add", is_flag=True, help=N_("Keep the waves that are there, and add these."))
@click.option("--at-once", is_flag=True, help=N_("Open it to every site at once."))
@click.pass_context
def wave(
    context: click.Context,
    version: str,
    waves: tuple[str, ...],
    feed: Path,
    event: Path,
    product: str | None,
    add: bool,
    at_once: bool,
) -> None:
    from ncen_updater.publisher.signing.draft import draft_waves

    if at_once == bool(waves) or (add and at_once):
        raise Misuse(N_("give the waves, or --at-once"))
    schedule = [parse_wave(text) for text in waves]
    _draft(
        context,
        feed,
        event,
        product,
        lambda s, p: draft_waves(s, p, version, schedule, now(), add=add),
    )


@click.command(
    "halt",
    cls=PublisherCommand,
    help=N_("Draft the halt of VERSION: no site that has not begun with it will."),
)
@_targeted
@click.option("--reason", required=True, help=N_("Why, for operators."))
@click.pass_context
def halt(
    context: click.Context, version: str, feed: Path, event: Path, product: str | None, reason: str
) -> None:
    from ncen_updater.formats.rollout import Halt
    from ncen_updater.publisher.signing.draft import draft_halt

    try:
        halted = Halt(reason=reason)
    except ValueError as error:
        raise Misuse(N_("1 to 1000 characters"), hint="--reason") from error
    _draft(context, feed, event, product, lambda s, p: draft_halt(s, p, version, halted, now()))


@click.command(
    "resume-wave",
    cls=PublisherCommand,
    help=N_("Draft the end of the halt of VERSION; its waves go on as they were signed."),
)
@_targeted
@click.pass_context
def resume_wave(
    context: click.Context, version: str, feed: Path, event: Path, product: str | None
) -> None:
    from ncen_updater.publisher.signing.draft import draft_resumption

    _draft(context, feed, event, product, lambda s, p: draft_resumption(s, p, version, now()))


@click.command("channel", cls=PublisherCommand, help=N_("Draft another channel for VERSION."))
@_targeted
@click.argument("channel_name", metavar="CHANNEL", type=click.Choice(["stable", "preview"]))
@click.pass_context
def channel(
    context: click.Context,
    version: str,
    channel_name: str,
    feed: Path,
    event: Path,
    product: str | None,
) -> None:
    from ncen_updater.formats.manifest import Channel
    from ncen_updater.publisher.signing.draft import draft_channel

    chosen = Channel(channel_name)
    _draft(context, feed, event, product, lambda s, p: draft_channel(s, p, version, chosen, now()))


@click.command(
    "audience",
    cls=PublisherCommand,
    help=N_("Draft the countries that VERSION is for, two capital letters each."),
)
@_targeted
@click.argument("countries", nargs=-1, metavar="COUNTRY...")
@click.option("--all", "everybody", is_flag=True, help=N_("For all countries."))
@click.pass_context
def audience(
    context: click.Context,
    version: str,
    countries: tuple[str, ...],
    feed: Path,
    event: Path,
    product: str | None,
    everybody: bool,
) -> None:
    from ncen_updater.publisher.signing.draft import draft_audience, impossible

    if everybody == bool(countries):
        raise Misuse(N_("give the countries, or --all"))
    if any(len(c) != 2 or not (c.isascii() and c.isalpha() and c.isupper()) for c in countries):
        raise Misuse(N_("two capital letters each, such as SN"), hint="COUNTRY")
    wrong = impossible(countries)
    if wrong:
        raise Misuse(N_("there is no country {country}"), hint="COUNTRY", country=wrong[0])
    _draft(
        context, feed, event, product, lambda s, p: draft_audience(s, p, version, countries, now())
    )
