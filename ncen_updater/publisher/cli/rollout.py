"""``wave``, ``resume-wave``, ``channel``, ``audience``: who may have a release, and when.

Each drafts a signing event, like everything that the signers decide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ncen_updater.common.cli.lazy import PublisherCommand
from ncen_updater.common.cli.usage import CommandUsageError
from ncen_updater.common.i18n import N_
from ncen_updater.publisher.cli.options import get_time, parse_wave, versioned_draft

if TYPE_CHECKING:
    from ncen_updater.publisher.cli.options import DraftMaker


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
def wave(version: str, waves: tuple[str, ...], add: bool, at_once: bool) -> DraftMaker:
    from ncen_updater.publisher.signing.draft import draft_waves

    if at_once == bool(waves) or (add and at_once):
        raise CommandUsageError(N_("give waves or --at-once"))
    schedule = [parse_wave(text) for text in waves]
    return lambda s, p: draft_waves(s, p, version, schedule, get_time(), add=add)


@click.command(
    "resume-wave",
    cls=PublisherCommand,
    help=N_("Draft the end of the halt of VERSION; its scheduled waves continue"),
)
@versioned_draft
def resume_wave(version: str) -> DraftMaker:
    from ncen_updater.publisher.signing.draft import draft_halt_end

    return lambda s, p: draft_halt_end(s, p, version, get_time())


@click.command("channel", cls=PublisherCommand, help=N_("Draft a change of the channel of VERSION"))
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
    help=N_("Draft the countries to which VERSION is offered (two-letter codes)"),
)
@versioned_draft
@click.argument("countries", nargs=-1, metavar="COUNTRY...")
@click.option("--all", "everybody", is_flag=True, help=N_("All countries"))
def audience(version: str, countries: tuple[str, ...], everybody: bool) -> DraftMaker:
    from ncen_updater.publisher.signing.draft import draft_audience, impossible

    if everybody == bool(countries):
        raise CommandUsageError(N_("give countries or --all"))
    if any(len(c) != 2 or not (c.isascii() and c.isalpha() and c.isupper()) for c in countries):
        raise CommandUsageError(N_("use two-letter codes, such as SN"), hint="COUNTRY")
    wrong = impossible(countries)
    if wrong:
        raise CommandUsageError(N_("unknown country {country}"), hint="COUNTRY", country=wrong[0])
    return lambda s, p: draft_audience(s, p, version, countries, get_time())
