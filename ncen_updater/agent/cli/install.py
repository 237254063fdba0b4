"""``install``, ``uninstall`` and ``self-update``: the agent itself on a server."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from ncen_updater.agent.adapters.databases.engines import ENGINES, get_engine_descriptor
from ncen_updater.agent.cli.common import (
    dry_run_option,
    get_agent_session,
    retry_option,
    yes_option,
)
from ncen_updater.agent.cli.session import AgentSession
from ncen_updater.common.cli.lazy import CliCommand
from ncen_updater.common.cli.session import DEFAULT_CONFIG
from ncen_updater.common.cli.usage import CommandUsageError, parse_version
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ncen_updater.agent.self_update.installation import InstallationPart


PATH_TYPE = click.Path(path_type=Path)
ROOT_HELP = N_("Root directory of all paths (default: /)")


@click.command("install", cls=CliCommand, help=N_("Install ncen-updater on this server"))
@click.option("--from", "release", type=PATH_TYPE, help=N_("Unpacked release of ncen-updater"))
@click.option("--trusted-root", type=PATH_TYPE, help=N_("root.json received from the Secretariat"))
@click.option("--settings", type=PATH_TYPE, help=N_("Configuration file to install"))
@click.option("--site", help=N_("Unique site ID"))
@click.option("--country", help=N_("Country code, two capital letters"))
@click.option("--feed-url", "feed", multiple=True, help=N_("Feed URL (repeatable)"))
@click.option(
    "--engine", type=click.Choice(list(ENGINES)), default=next(iter(ENGINES)),
    help=N_("Database engine"),
)  # fmt: skip
@click.option("--unit", default="ncen.service", help=N_("systemd unit of the application"))
@click.option(
    "--health-url", default="http://127.0.0.1:8000", help=N_("Health URL of the application")
)
@click.option("--root", type=PATH_TYPE, default=Path("/"), help=ROOT_HELP)
@dry_run_option
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
    from ncen_updater.agent.self_update.installation import (
        InstallOptions,
        build_install_parts,
        create_missing,
        list_missing,
    )

    session = get_agent_session(context)
    session.installing = True
    root = root.absolute()
    config = _find_config(session, root)
    release = release or Path(sys.prefix) / "release"
    text = None
    if not config.exists() and settings is not None:
        text = settings.read_text("utf-8")
    elif not config.exists():
        answers = InitialSettings(
            site=_ask_if_missing(session, site, "--site", LazyText(N_("Site ID"))),
            country=_ask_if_missing(session, country, "--country", LazyText(N_("Country"))),
            feed=feed or (_ask_if_missing(session, None, "--feed-url", LazyText(N_("Feed URL"))),),
            engine=engine,
            unit=unit,
            health_url=health_url,
            runner="systemd" if root == Path("/") and (release / "units").is_dir() else "process",
        )
        text = render_config(answers, root)
    options = InstallOptions(root, config, release, trusted_root, text)
    with session.make_progress() as progress:
        parts = build_install_parts(options, progress)
        done = list_missing(parts) if dry_run else create_missing(parts, progress)
    _show_parts(session, done, dry_run=dry_run)
    if not dry_run:
        session.add_line(LazyText(N_("Run ncen-updater adopt VERSION, then start the service.")))
    return ExitCode.OK


@click.command(
    "uninstall", cls=CliCommand, help=N_("Uninstall ncen-updater and keep the application")
)
@click.option("--purge", is_flag=True, help=N_("Also remove journal, metadata and configuration"))
@click.option("--root", type=PATH_TYPE, default=Path("/"), help=ROOT_HELP)
@yes_option
@dry_run_option
@click.pass_context
def uninstall(
    context: click.Context, purge: bool, root: Path, yes: bool, dry_run: bool
) -> ExitCode:
    from ncen_updater.agent.config.essential_settings import load_essential_settings
    from ncen_updater.agent.self_update.installation import (
        build_uninstall_parts,
        create_missing,
        hold_idle_site,
        list_missing,
        reject_packaged_install,
    )

    session = get_agent_session(context)
    session.installing = True
    root = root.absolute()
    reject_packaged_install(root)
    config = _find_config(session, root)
    state = (
        load_essential_settings(config).state if config.exists() else root / "var/lib/ncen-updater"
    )
    # A dry run does not lock the site.
    ready = contextlib.nullcontext() if dry_run else hold_idle_site(state)
    with ready, session.make_progress() as progress:
        parts = build_uninstall_parts(root, config, purge=purge)
        if dry_run:
            done = list_missing(parts)
        else:
            question = N_("Uninstall ncen-updater and delete its journal?") if purge else N_(
                "Uninstall ncen-updater and keep its journal?"
            )  # fmt: skip
            session.ask_confirmation(LazyText(question), assume_yes=yes)
            done = create_missing(parts, progress)
    _show_parts(session, done, dry_run=dry_run)
    return ExitCode.OK


def _find_config(session: AgentSession, root: Path) -> Path:
    """Return the path of the configuration: the given one, or the default below the root."""
    if session.config != DEFAULT_CONFIG:
        return session.config
    return root / DEFAULT_CONFIG.relative_to("/")


def _ask_if_missing(
    session: AgentSession, value: str | None, option: str, question: LazyText
) -> str:
    if value is not None:
        return value
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise CommandUsageError(N_("{option} or --settings is required"), option=option)
    prompt = session.format_for_stream(question.render(session.language), sys.stderr)
    return str(click.prompt(prompt, err=True)).strip()


def _show_parts(session: AgentSession, done: Sequence[InstallationPart], *, dry_run: bool) -> None:
    words = N_("Would be done: {what}") if dry_run else N_("Done: {what}")
    for part in done:
        session.add_line(LazyText(words, {"what": part.description}))
    if not done:
        session.add_line(LazyText(N_("No changes required.")))
    session.write_output(
        {"dry_run": dry_run, "parts": [p.description.render(session.language) for p in done]}
    )


DEFAULT_DATABASES = {
    "cases": "ncen_cases",
    "reference": "ncen_reference",
    "messages": "ncen_messages",
}


@dataclass(frozen=True)
class InitialSettings:
    """Settings of a new configuration file.

    Attributes:
        databases: Name in the releases and name on the server, for each database.
        engine_settings: Settings of the engine's own table; by default the engine's proposal.
        unit: The application's unit.
        health_url: Health URL of the application.
        runner: ``systemd`` if units with separate privileges are installed.
    """

    site: str
    country: str
    feed: tuple[str, ...]
    engine: str = next(iter(ENGINES))
    databases: tuple[tuple[str, str], ...] = tuple(DEFAULT_DATABASES.items())
    engine_settings: Mapping[str, str] | None = None
    unit: str = "ncen.service"
    health_url: str = "http://127.0.0.1:8000"
    runner: Literal["process", "systemd"] = "process"


def render_config(settings: InitialSettings, root: Path) -> str:
    """Return the text of the configuration file. Pure."""
    quoted = json.dumps  # JSON strings and arrays are valid TOML
    lines = [
        "# Made by 'ncen-updater install'. Every setting: docs/reference/configuration.md",
        "schema = 1",
        "",
        "[site]",
        f"id = {quoted(settings.site)}",
        f"country = {quoted(settings.country)}",
        "",
        "[paths]",
        f"root = {quoted(str(root))}",
        "",
        "[feed]",
        f"urls = {quoted(list(settings.feed))}" if settings.feed else "offline = true",
        "",
        "[databases]",
        f"engine = {quoted(settings.engine)}",
        "",
        "[databases.names]",
        *(f"{name} = {quoted(physical)}" for name, physical in settings.databases),
        "",
        f"[databases.{settings.engine}]",
    ]
    engine_settings = settings.engine_settings
    if engine_settings is None:
        engine_settings = get_engine_descriptor(settings.engine).initial_settings
    lines += [f"{name} = {quoted(value)}" for name, value in engine_settings.items()]
    lines += [
        "",
        "[application]",
        f"unit = {quoted(settings.unit)}",
        f"health_url = {quoted(settings.health_url)}",
        'maintenance_file = "run/ncen/maintenance"',
        "",
        "[service]",
        f"runner = {quoted(settings.runner)}",
        "",
    ]
    return "\n".join(lines)


@click.command("self-update", cls=CliCommand, help=N_("Update ncen-updater itself"))
@click.argument("version", required=False)
@retry_option
@dry_run_option
@click.pass_context
def self_update(
    context: click.Context, version: str | None, retry: bool, dry_run: bool
) -> ExitCode:
    session = get_agent_session(context)
    target = parse_version(version)
    if dry_run:
        return session.show_result(
            session.get_local_site().update_agent(target, retry=retry, dry_run=True)
        )
    return session.show_result(session.get_client().update_agent(target, retry=retry))
