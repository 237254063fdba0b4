"""``new`` and ``try``: create the first manifest of an application; test a release locally."""

from __future__ import annotations

import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import click

from ncen_updater.common import atomic_files as durable
from ncen_updater.common.cli.render import finding_to_json, format_decimal
from ncen_updater.common.cli.session import CliSession
from ncen_updater.common.cli.usage import CommandUsageError
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText, LocalizedFigure
from ncen_updater.common.messages import RELEASE_NOT_EMPTY, SANDBOX_UNUSABLE, ExitCode
from ncen_updater.formats.manifest import load_manifest
from ncen_updater.publisher.cli.options import (
    DIRECTORY_PATH,
    FILE_PATH,
    get_time,
    publisher_command,
    show_findings,
    show_line,
    yes_option,
)
from ncen_updater.publisher.errors import make_write_error
from ncen_updater.publisher.lint.release_lint import lint_release, refuse_critical_findings
from ncen_updater.publisher.new.manifest_writer import (
    MIGRATE_PROGRAM_PATH,
    ManifestAnswers,
    make_manifest,
    propose_databases,
    propose_reported_version,
    read_migrate_program,
)
from ncen_updater.publisher.new.migration_detection import (
    DetectedMigrations,
    MigratorKind,
    detect_migrations,
    find_node_command,
    use_own_command,
)
from ncen_updater.publisher.new.sandbox_run import SandboxRun, SandboxStage, serve_feed
from ncen_updater.publisher.new.sandbox_site import load_sandbox
from ncen_updater.publisher.new.trial import TrialStore

MIGRATOR_KINDS = ("django", "alembic", "flyway", "liquibase", "sql", "none")


@publisher_command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.option("--product", metavar="NAME", help=N_("Product name in the feed"))
@click.option("--release", metavar="VERSION", help=N_("Version of the release"))
@click.option(
    "--reports",
    metavar="VERSION",
    help=N_("Version reported by the application, if different"),
)
@click.option(
    "--upgrade-from",
    metavar="VERSION",
    help=N_("Versions that can be upgraded, such as >=3.2,<3.3 (empty for a first release)"),
)
@click.option(
    "--database",
    "databases",
    multiple=True,
    metavar="NAME",
    help=N_("Databases of the application"),
)
@click.option(
    "--migrator",
    type=click.Choice(MIGRATOR_KINDS),
    help=N_("Type of migrator, if not detected"),
)
@click.option(
    "--migrator-command",
    metavar="COMMAND",
    help=N_("Migration command of the application, such as 'mlflow db upgrade {url}'"),
)
@click.option("--health", metavar="PATH", help=N_("URL path of the health check"))
@click.option("--yes", is_flag=True, help=N_("Accept the detected values without prompting"))
def new(
    session: CliSession,
    directory: Path,
    product: str | None,
    release: str | None,
    reports: str | None,
    upgrade_from: str | None,
    databases: tuple[str, ...],
    migrator: str | None,
    migrator_command: str | None,
    health: str | None,
    yes: bool,
) -> ExitCode:
    manifest = directory / "manifest.toml"
    if manifest.exists() or manifest.is_symlink():
        raise UpdaterError(RELEASE_NOT_EMPTY, path=manifest)
    ask = _Prompter(session, asks=not yes)
    name = directory.absolute().name
    found = _detect_migrations(session, ask, directory, migrator, migrator_command)
    product = ask(product, "--product", None)
    release = ask(release, "--release", name)
    if (proposal := propose_reported_version(release)) is not None:
        reports = ask(reports, "--reports", proposal)
    upgrade_from = ask(upgrade_from, "--upgrade-from", "")
    if not databases:
        proposed = propose_databases(product, found)
        words = ask(None, "--database", ", ".join(proposed))
        databases = tuple(word.strip() for word in words.split(",") if word.strip())
    health = ask(health, "--health", "/")
    if not databases:
        found = DetectedMigrations(MigratorKind.NONE)
    language = session.language if session.language in ("en", "fr") else "en"
    answers = ManifestAnswers(
        product, release, reports or release, upgrade_from, databases, found, health, language,
    )  # fmt: skip
    text = make_manifest(answers)
    written = [manifest]
    try:
        if found.kind not in (MigratorKind.SQL, MigratorKind.NONE):
            program = directory / MIGRATE_PROGRAM_PATH
            if not program.exists():  # keep the application's own program
                durable.make_directory(program.parent)
                durable.write_file(program, read_migrate_program(), 0o755)
                written.insert(0, program)
        durable.write_file(manifest, text.encode(), 0o644)
    except OSError as error:
        raise make_write_error(error) from error
    findings = lint_release(directory)
    show_line(session, LazyText(N_("Written: {path}"), {"path": ", ".join(map(str, written))}))
    code = show_findings(session, findings)
    show_line(session, LazyText(N_("Next: review it, then run: ncen-publisher lint {directory}"),
                            {"directory": directory}))  # fmt: skip
    session.write_output(
        {
            "product": product,
            "version": release,
            "migrator": found.kind.value,
            "databases": list(databases),
            "written": [str(path) for path in written],
            "findings": [finding_to_json(item, session.language) for item in findings],
        }
    )
    return code


def _detect_migrations(
    session: CliSession, ask: _Prompter, directory: Path, migrator: str | None, command: str | None
) -> DetectedMigrations:
    """Detect the migration tool, and ask for a command if there may be one."""
    found = detect_migrations(directory, MigratorKind(migrator) if migrator else None)
    if not command:
        files = found.files or tuple(pair.up for pair in found.pairs)
        words = N_("{tool} found: {files}")
        if found.kind is MigratorKind.NONE:
            words = N_("No migrator found (manage.py, alembic.ini, Flyway, Liquibase or *.up.sql)")
        values = {"tool": found.kind.value, "files": ", ".join(files[:5]) or "-"}
        session.print_message(LazyText(words, values))
    proposed = find_node_command(directory)
    if (found.library or proposed) and command is None and migrator is None:
        session.print_message(
            LazyText(N_("  (among installed packages: the application may have its own command)"))
        )
        command = ask(None, "--migrator-command", proposed)
    if not command:
        return found
    found = use_own_command(directory, command)
    words = N_("Migration by the application's own command: {command}")
    session.print_message(LazyText(words, {"command": command}))
    return found


class _Prompter:
    """Asks at a terminal for options that were not given; otherwise uses the proposed values."""

    def __init__(self, session: CliSession, *, asks: bool) -> None:
        self._session = session
        self._asks = asks and sys.stdin.isatty() and sys.stderr.isatty()

    def __call__(self, given: str | None, option: str, proposed: str | None) -> str:
        if given is not None:
            return given
        if self._asks:
            options = click.get_current_context().command.params
            words = next(
                one.help or ""
                for one in options
                if isinstance(one, click.Option) and option in one.opts
            )
            question = self._session.translate(words)
            return str(self._session.prompt(question, default=proposed)).strip()
        if proposed is None:
            raise CommandUsageError(N_("required without a terminal"), hint=option)
        return proposed


#: The Debian package of the publisher has no agent: then the installed one.
AGENT_COMMAND = (
    (sys.executable, "-I", "-m", "ncen_updater.agent.cli.main")
    if find_spec("ncen_updater.agent")
    else ("ncen-updater",)
)
STAGE_PASSED = N_("{stage}: passed, {seconds} s")
STAGE_FAILED = N_("{stage}: failed ({code}), {seconds} s")


@publisher_command()
@click.argument("directory", type=DIRECTORY_PATH)
@click.option("--before", type=DIRECTORY_PATH, required=True, help=N_("Installed release"))
@click.option(
    "--site",
    type=FILE_PATH,
    required=True,
    help=N_("agent.toml of the test site; all its data may be lost"),
)
@click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIRECTORY",
    help=N_("Keep the builds, the feed and the progress, and continue from there"),
)
@yes_option
def try_(
    session: CliSession,
    directory: Path,
    before: Path,
    site: Path,
    keep: Path | None,
    yes: bool,
) -> ExitCode:
    work = keep or Path(
        click.get_current_context().with_resource(tempfile.TemporaryDirectory(prefix="nu-try-"))
    )
    sandbox = load_sandbox(site, work / "feed")
    old, new = (load_manifest(place / "manifest.toml") for place in (before, directory))
    for place in (before, directory):
        refuse_critical_findings(str(place), lint_release(place))
    for manifest in (old, new):
        if manifest.product != sandbox.product:
            reason = f"it runs {sandbox.product}, and a release is of {manifest.product}"
            raise UpdaterError(SANDBOX_UNUSABLE, path=site, reason=reason)
    session.ask_confirmation(
        LazyText(N_(
            "All data of the test site {path}, including its databases, may be lost. Continue?"),
            {"path": site}),
        assume_yes=yes,
    )  # fmt: skip

    trial = TrialStore(work, sandbox)

    def tell(stage: SandboxStage) -> None:
        if stage.is_passed:
            trial.pass_stage(old.version, new.version, stage.name)
        words = STAGE_PASSED if stage.is_passed else STAGE_FAILED
        values = {
            "stage": LocalizedFigure(stage.name),  # a command of the agent
            "seconds": format_decimal(stage.seconds),
            "code": stage.code or str(stage.status),
        }
        session.print_message(LazyText(words, values))
        if not stage.is_passed:
            session.print_message(stage.output)

    with serve_feed(trial.feed, sandbox):  # first of all: to build both takes minutes
        with session.make_progress() as progress:
            progress.report(LazyText(N_("building both releases with temporary keys")))
            trial.publish([before, directory], get_time)
        run = SandboxRun(sandbox, AGENT_COMMAND, session.language, tell)
        stages = run.run_stages(
            old.version, new.version, trial.list_passed_stages(old.version, new.version)
        )
        for line in run.suggest_manifest_lines(stages, old.version, new.version):
            session.print_message(line)
        if sandbox.is_running():
            sandbox.stop_application()
    has_passed = all(stage.is_passed for stage in stages)
    downtime_s = _get_downtime_s(stages)
    values = {"product": new.product, "version": new.version, "before": old.version}
    if has_passed:
        words = N_("Passed: upgrade from {before} to {product} {version} and rollback")
    else:
        words = N_("Failed: {product} {version}")
    show_line(session, LazyText(words, values))
    if downtime_s is not None:
        show_line(
            session,
            LazyText(N_("Downtime: {seconds} s"), {"seconds": format_decimal(downtime_s)}),
        )
    session.write_output(
        {
            **values,
            "passed": has_passed,
            "downtime_s": downtime_s,
            "stages": [
                {
                    "name": stage.name,
                    "passed": stage.is_passed,
                    "exit_code": stage.status,
                    "code": stage.code or None,
                    "seconds": round(stage.seconds, 1),
                    "document": stage.document,
                }
                for stage in stages
            ],
        }
    )
    return ExitCode.OK if has_passed else ExitCode.BLOCKED


def _get_downtime_s(stages: list[SandboxStage]) -> float | None:
    """Return the downtime of the upgrade, as the agent measured it."""
    upgrades = (one for one in stages if one.name == "upgrade" and one.is_passed)
    changes = [change for one in upgrades for change in one.document.get("changes") or ()]
    return sum(float(change.get("downtime_s") or 0) for change in changes) if changes else None
