"""``init``, ``rekey``, ``renew``: who holds which role, and for how long."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ncen_updater.common.cli.lazy import PublisherCommand, session_of
from ncen_updater.common.cli.usage import Misuse
from ncen_updater.common.i18n import N_
from ncen_updater.publisher.cli.common import (
    FILE,
    event_option,
    feed_option,
    now,
    show_result,
    write_event,
)

if TYPE_CHECKING:
    from ncen_updater.publisher.signing.ceremony import Ceremony

_one_signature = click.option(
    "--one-signature",
    is_flag=True,
    help=N_("Let one person alone sign for every site, where the CEREMONY file says so."),
)


def _agreed(ceremony: Path, *, one_signature: bool) -> Ceremony:
    from ncen_updater.publisher.signing.ceremony import load_ceremony

    agreed = load_ceremony(ceremony)
    if not one_signature:
        agreed.refuse_one_signature()
    return agreed


@click.command(
    "init",
    cls=PublisherCommand,
    help=N_("Draft a new feed from a CEREMONY file: root, targets and every product."),
)
@click.argument("ceremony", type=FILE)
@event_option
@_one_signature
@click.pass_context
def init(context: click.Context, ceremony: Path, event: Path, one_signature: bool) -> None:
    from ncen_updater.publisher.signing.draft import draft_first

    agreed = _agreed(ceremony, one_signature=one_signature)
    write_event(context, event, draft_first(agreed, now()), None)


@click.command(
    "rekey",
    cls=PublisherCommand,
    help=N_("Draft other keys, thresholds, periods or products from a changed CEREMONY file."),
)
@click.argument("ceremony", type=FILE)
@feed_option
@event_option
@_one_signature
@click.pass_context
def rekey(
    context: click.Context, ceremony: Path, feed: Path, event: Path, one_signature: bool
) -> None:
    from ncen_updater.publisher.feed.feed import Feed
    from ncen_updater.publisher.signing.draft import draft_keys

    agreed = _agreed(ceremony, one_signature=one_signature)
    state = Feed(feed).state()
    write_event(context, event, draft_keys(state, agreed, now()), state)


@click.command(
    "renew",
    cls=PublisherCommand,
    help=N_("Draft the same content of ROLES with a new expiry date."),
)
@click.argument("roles", nargs=-1)
@feed_option
@event_option
@click.option(
    "--due",
    is_flag=True,
    help=N_("Of every role that is to be signed anew by now, in place of ROLES; for a timer."),
)
@click.pass_context
def renew(
    context: click.Context, roles: tuple[str, ...], feed: Path, event: Path, due: bool
) -> None:
    from ncen_updater.publisher.feed.feed import Feed
    from ncen_updater.publisher.feed.status import due_roles
    from ncen_updater.publisher.signing.draft import draft_renewal
    from ncen_updater.publisher.signing.event import SigningEvent

    if due == bool(roles):
        raise Misuse(N_("name roles, or --due"), context)
    state = Feed(feed).state()
    if due:
        roles = due_roles(state, now())
        opened = SigningEvent.load(event) if roles and (event / "event.json").exists() else None
        if not roles or (opened is not None and opened.renews(state, roles)):
            words = N_("Nothing is to be signed anew by now.")
            if roles:
                words = N_("{event} is open for that already: {roles}")
            said = {"event": str(event) if roles else None, "roles": roles}
            show_result(session_of(context), said, words)
            return
    write_event(context, event, draft_renewal(state, roles, now()), state)
