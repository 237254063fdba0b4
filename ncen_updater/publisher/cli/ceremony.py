"""``init``, ``rekey``, ``renew``: who holds which role, and for how long."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ncen_updater.common.cli.lazy import PublisherCommand, get_session
from ncen_updater.common.cli.usage import CommandUsageError
from ncen_updater.common.i18n import N_
from ncen_updater.publisher.cli.options import (
    FILE_PATH,
    event_option,
    feed_option,
    get_time,
    show_result,
    write_event,
)

if TYPE_CHECKING:
    from ncen_updater.publisher.signing.ceremony import Ceremony

_one_signature = click.option(
    "--one-signature",
    is_flag=True,
    help=N_("Allow a signature threshold of 1, as set in the CEREMONY file"),
)


def _load_agreed(ceremony: Path, *, one_signature: bool) -> Ceremony:
    from ncen_updater.publisher.signing.ceremony import load_ceremony

    agreed = load_ceremony(ceremony)
    if not one_signature:
        agreed.refuse_one_signature()
    return agreed


@click.command(
    "init",
    cls=PublisherCommand,
    help=N_("Draft the first root metadata of a new feed"),
)
@click.argument("ceremony", type=FILE_PATH)
@event_option
@_one_signature
@click.pass_context
def init(context: click.Context, ceremony: Path, event: Path, one_signature: bool) -> None:
    from ncen_updater.publisher.signing.draft import draft_initial_roles

    agreed = _load_agreed(ceremony, one_signature=one_signature)
    write_event(context, event, draft_initial_roles(agreed, get_time()), None)


@click.command(
    "rekey",
    cls=PublisherCommand,
    help=N_("Draft a change of keys, thresholds, expiry periods or products"),
)
@click.argument("ceremony", type=FILE_PATH)
@feed_option
@event_option
@_one_signature
@click.pass_context
def rekey(
    context: click.Context, ceremony: Path, feed: Path, event: Path, one_signature: bool
) -> None:
    from ncen_updater.publisher.feed.feed_directory import FeedDirectory
    from ncen_updater.publisher.signing.draft import draft_key_change

    agreed = _load_agreed(ceremony, one_signature=one_signature)
    state = FeedDirectory(feed).read_state()
    write_event(context, event, draft_key_change(state, agreed, get_time()), state)


@click.command(
    "renew",
    cls=PublisherCommand,
    help=N_("Draft a new expiry date for roles"),
)
@click.argument("roles", nargs=-1)
@feed_option
@event_option
@click.option(
    "--due",
    is_flag=True,
    help=N_("Renew all roles that are due, instead of ROLES (for a timer)"),
)
@click.pass_context
def renew(
    context: click.Context, roles: tuple[str, ...], feed: Path, event: Path, due: bool
) -> None:
    from ncen_updater.publisher.feed.feed_directory import FeedDirectory
    from ncen_updater.publisher.feed.feed_status import list_due_roles
    from ncen_updater.publisher.signing.draft import draft_renewal
    from ncen_updater.publisher.signing.signing_event import SigningEvent

    if due == bool(roles):
        raise CommandUsageError(N_("give ROLES or --due"), context)
    state = FeedDirectory(feed).read_state()
    if due:
        roles = list_due_roles(state, get_time())
        opened = SigningEvent.load(event) if roles and (event / "event.json").exists() else None
        if not roles or (opened is not None and opened.is_renewal_of(state, roles)):
            words = N_("No role is due for renewal.")
            if roles:
                words = N_("{event} already renews {roles}")
            values = {"event": str(event) if roles else None, "roles": roles}
            show_result(get_session(context), values, words)
            return
    write_event(context, event, draft_renewal(state, roles, get_time()), state)
