"""``install`` and ``uninstall``: the agent comes to a server, and leaves it."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from ncen_updater.agent.adapters.databases.engines import ENGINES, kind_of
from ncen_updater.agent.cli.common import agent_session
from ncen_updater.agent.cli.session import AgentSession
from ncen_updater.common.cli.lazy import Command
from ncen_updater.common.cli.session import DEFAULT_CONFIG
from ncen_updater.common.cli.usage import Misuse
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ncen_updater.agent.self_update.installation_parts import InstalledPart


PATH = click.Path(path_type=Path)
ROOT_HELP = N_("Everything is below this directory; / by default.")


@click.command("install", cls=Command, help=N_("Install the agent on this server."))
@click.option("--from", "release", type=PATH, help=N_("An unpacked release of the agent."))
@click.option("--trusted-root", type=PATH, help=N_("The root that the Secretariat handed over."))
@click.option("--settings", type=PATH, help=N_("A configuration that is ready."))
@click.option("--site", help=N_("Id of the site, as no other has it."))
@click.option("--country", help=N_("Its country, two capital letters."))
@click.option("--feed-url", "feed", multiple=True, help=N_("Address of the feed; or several."))
@click.option(
    "--engine", type=click.Choice(list(ENGINES)), default=next(iter(ENGINES)),
    help=N_("Kind of the databases."),
)  # fmt: skip
@click.option("--unit", default="ncen.service", help=N_("The application's unit."))
@click.option(
    "--health-url", default="http://127.0.0.1:8000", help=N_("The application's own address.")
)
@click.option("--root", type=PATH, default=Path("/"), help=ROOT_HELP)
@click.option("--dry-run", is_flag=True, help=N_("Say what would be done, and change nothing."))
@click.pass_context
def install(
    context: click.Context,
    release: Path | None,
    trusted_root: Path | None,
    settings: Path | None,
    site: str | None,
    country: str | None,
    feed: tuple[str, ...],
    engine: str,
    unit: str,
    health_url: str,
    root: Path,
    dry_run: bool,
) -> ExitCode:
    from ncen_updater.agent.self_update.installation_parts import apply, missing
    from ncen_updater.agent.self_update.installing import InstallOrder, install_parts

    session = agent_session(context)
    session.adopting = True
    root = root.absolute()
    config = _config(session, root)
    release = release or Path(sys.prefix) / "release"
    text = None
    if not config.exists() and settings is not None:
        text = settings.read_text("utf-8")
    elif not config.exists():
        answers = Answers(
            site=_answer(session, site, "--site", Text(N_("Id of the site"))),
            country=_answer(session, country, "--country", Text(N_("Country"))),
            feed=feed or (_answer(session, None, "--feed-url", Text(N_("Address of the feed"))),),
            engine=engine,
            unit=unit,
            health_url=health_url,
            runner="systemd" if root == Path("/") and (release / "units").is_dir() else "process",
        )
        text = settings_text(answers, root)
    order = InstallOrder(root, config, release, trusted_root, text)
    with session.progress() as progress:
        parts = install_parts(order, progress)
        done = missing(parts) if dry_run else apply(parts, progress)
    _show(session, done, dry_run=dry_run)
    if not dry_run:
        session.show(Text(N_("Next: 'ncen-updater adopt VERSION', then start the service.")))
    return ExitCode.OK


@click.command("uninstall", cls=Command, help=N_("Take the agent away; the application stays."))
@click.option("--purge", is_flag=True, help=N_("Journal, lists and configuration go, too."))
@click.option("--root", type=PATH, default=Path("/"), help=ROOT_HELP)
@click.option("--yes", is_flag=True, help=N_("Answer the question with yes."))
@click.option("--dry-run", is_flag=True, help=N_("Say what would be done, and change nothing."))
@click.pass_context
def uninstall(
    context: click.Context, purge: bool, root: Path, yes: bool, dry_run: bool
) -> ExitCode:
    from ncen_updater.agent.config.paths import load_places
    from ncen_updater.agent.self_update.installation_parts import apply, missing
    from ncen_updater.agent.self_update.installing import (
        nothing_at_work,
        refuse_package,
        uninstall_parts,
    )

    session = agent_session(context)
    session.adopting = True
    root = root.absolute()
    refuse_package(root)
    config = _config(session, root)
    state = load_places(config).state if config.exists() else root / "var/lib/ncen-updater"
    # What is only looked at keeps nobody from work.
    ready = contextlib.nullcontext() if dry_run else nothing_at_work(state)
    with ready, session.progress() as progress:
        parts = uninstall_parts(root, config, purge=purge)
        if dry_run:
            done = missing(parts)
        else:
            question = N_("Take the agent away, with its journal?") if purge else N_(
                "Take the agent away? Its journal stays."
            )  # fmt: skip
            session.agree(Text(question), yes=yes)
            done = apply(parts, progress)
    _show(session, done, dry_run=dry_run)
    return ExitCode.OK


def _config(session: AgentSession, root: Path) -> Path:
    """The configuration: the one that was named, else the usual one below the root."""
    if session.config != DEFAULT_CONFIG:
        return session.config
    return root / DEFAULT_CONFIG.relative_to("/")


def _answer(session: AgentSession, given: str | None, option: str, question: Text) -> str:
    if given is not None:
        return given
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise Misuse(N_("missing: {option} (or --settings with a file)"), option=option)
    asked = session.lines(question.render(session.language), sys.stderr)
    return str(click.prompt(asked, err=True)).strip()


def _show(session: AgentSession, done: Sequence[InstalledPart], *, dry_run: bool) -> None:
    words = N_("would be done: {what}") if dry_run else N_("done: {what}")
    for part in done:
        session.show(Text(words, {"what": part.what}))
    if not done:
        session.show(Text(N_("Everything is as it should be.")))
    session.finish({"dry_run": dry_run, "parts": [p.what.render(session.language) for p in done]})


DATABASES = {"cases": "ncen_cases", "reference": "ncen_reference", "messages": "ncen_messages"}


@dataclass(frozen=True)
class Answers:
    """What a person has to say of a site.

    Attributes:
        databases: Name in the releases to name in the server.
        engine_settings: Of its own table; by default what the engine gives a first site.
        unit: The application's unit.
        health_url: The application's own address.
        runner: ``systemd`` where the units come along that split privilege.
    """

    site: str
    country: str
    feed: tuple[str, ...]
    engine: str = next(iter(ENGINES))
    databases: tuple[tuple[str, str], ...] = tuple(DATABASES.items())
    engine_settings: Mapping[str, str] | None = None
    unit: str = "ncen.service"
    health_url: str = "http://127.0.0.1:8000"
    runner: Literal["process", "systemd"] = "process"


def settings_text(answers: Answers, root: Path) -> str:
    """Return the text of the configuration; pure."""
    quoted = json.dumps  # strings and arrays of JSON are TOML's too
    lines = [
        "# Made by 'ncen-updater install'. Every setting: docs/configuration.md",
        "schema = 1",
        "",
        "[site]",
        f"id = {quoted(answers.site)}",
        f"country = {quoted(answers.country)}",
        "",
        "[paths]",
        f"root = {quoted(str(root))}",
        "",
        "[feed]",
        f"urls = {quoted(list(answers.feed))}" if answers.feed else "offline = true",
        "",
        "[databases]",
        f"engine = {quoted(answers.engine)}",
        "",
        "[databases.names]",
        *(f"{name} = {quoted(physical)}" for name, physical in answers.databases),
        "",
        f"[databases.{answers.engine}]",
    ]
    own = answers.engine_settings
    first = kind_of(answers.engine).first_settings if own is None else own
    lines += [f"{name} = {quoted(value)}" for name, value in first.items()]
    lines += [
        "",
        "[application]",
        f"unit = {quoted(answers.unit)}",
        f"health_url = {quoted(answers.health_url)}",
        'door_file = "run/ncen/door-closed"',
        "",
        "[service]",
        f"runner = {quoted(answers.runner)}",
        "",
    ]
    return "\n".join(lines)
