"""``language``: a language of a release, made after it and signed like it."""

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
from ncen_updater.common.cli.render import finding_document, finding_lines
from ncen_updater.common.cli.usage import Misuse
from ncen_updater.common.findings import Severity
from ncen_updater.common.i18n import N_
from ncen_updater.common.messages import ExitCode
from ncen_updater.publisher.cli.common import (
    DIRECTORY,
    chosen_product,
    event_option,
    feed_option,
    now,
    product_option,
    show_event,
    show_result,
    withdrawal,
)

COMMANDS = commands(
    "ncen_updater.publisher.cli",
    {
        "add": ("languages", N_("Put LANGUAGE of a published release into a staging directory.")),
        "withdraw": ("languages", N_("Draft that LANGUAGE of a release is taken back.")),
    },
)

language = LazyGroup(
    "language",
    lazy=COMMANDS,
    params=global_options(config=False),
    help=N_("A language of a release, made after it and signed like it."),
)

version_option = click.option(
    "--version",
    "release",
    metavar="VERSION",
    required=True,
    help=N_("The release that it is for; it must be published."),
)


def _checked(name: str) -> str:
    """Return a language's name.

    Raises:
        Misuse: If it is none.
    """
    import re

    from ncen_updater.formats.manifest import LANGUAGE

    if not re.fullmatch(LANGUAGE, name) or len(name) > 20:
        raise Misuse(N_("'{name}': write a language as sr, pt_BR or sr_Latn"), name=name)
    return name


@click.command("add", cls=PublisherCommand, help=COMMANDS["add"][1])
@click.argument("name", metavar="LANGUAGE")
@click.argument("files", nargs=-1, required=True, metavar="FILES...")
@version_option
@feed_option
@product_option
@click.option("--staging", type=DIRECTORY, help=N_("Where it is written for 'draft'."))
@click.option("--dry-run", is_flag=True, help=N_("Only say what lint says of it."))
@click.pass_context
def add(
    context: click.Context,
    name: str,
    files: tuple[str, ...],
    release: str,
    feed: Path,
    product: str | None,
    staging: Path | None,
    dry_run: bool,
) -> ExitCode:
    from ncen_updater.publisher.build.languages import Sent, make_language, stage_language
    from ncen_updater.publisher.feed.feed import Feed

    if staging is None and not dry_run:
        raise Misuse(N_("name a directory with --staging, or --dry-run"), context)
    session, place = session_of(context), Feed(feed)
    sent = []
    for text in files:
        overlay, said, rest = text.partition("=")
        sent.append(Sent(Path(rest), overlay) if said else Sent(Path(text)))
    chosen = chosen_product(place.state(), product)
    made = make_language(place, chosen, release, _checked(name), sent)
    for line in finding_lines(made.findings, session.language):
        session.show(line)
    blocked = any(finding.severity is Severity.STRICT for finding in made.findings)
    document = {
        **made.document.offer().model_dump(mode="json", exclude={"withdrawn"}),
        "findings": [finding_document(finding, session.language) for finding in made.findings],
        "file": None,
    }
    if blocked or staging is None or dry_run:
        session.finish(document)
        return ExitCode.BLOCKED if blocked else ExitCode.OK
    path = stage_language(made, staging)
    words = N_(
        "Staged: {product} {version} in '{language}', revision {revision}: {translated} of {total}"
        " translated ({file}). Draft, sign and publish it as a release."
    )
    show_result(session, {**document, "file": str(path)}, words)
    return ExitCode.OK


@click.command("withdraw", cls=PublisherCommand, help=COMMANDS["withdraw"][1])
@click.argument("name", metavar="LANGUAGE")
@version_option
@feed_option
@event_option
@product_option
@click.option("--reason", required=True, help=N_("Why, for operators."))
@click.option(
    "--advice",
    required=True,
    help=N_("What sites that took it should do: operators read it there."),
)
@click.pass_context
def withdraw(
    context: click.Context,
    name: str,
    release: str,
    feed: Path,
    event: Path,
    product: str | None,
    reason: str,
    advice: str,
) -> None:
    from ncen_updater.publisher.feed.feed import Feed
    from ncen_updater.publisher.signing.event import SigningEvent
    from ncen_updater.publisher.signing.language_drafts import draft_language_withdrawal

    taken = withdrawal(reason, advice)
    state = Feed(feed).state()
    chosen = chosen_product(state, product)
    made = draft_language_withdrawal(state, chosen, release, _checked(name), taken, now())
    show_event(session_of(context), SigningEvent.create(event, made.title, made.roles, state))
