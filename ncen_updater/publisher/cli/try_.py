"""``try``: run a complete upgrade and rollback on a sandbox site before signing."""

from __future__ import annotations

import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ncen_updater.common.cli.lazy import PublisherCommand, get_session
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import ExitCode
from ncen_updater.publisher.cli.options import DIRECTORY_PATH, FILE_PATH, get_time, show_line

if TYPE_CHECKING:
    from ncen_updater.publisher.new.sandbox_run import SandboxStage

#: The Debian package of the publisher has no agent: use the installed agent then.
AGENT_COMMAND = (
    (sys.executable, "-I", "-m", "ncen_updater.agent.cli.main")
    if find_spec("ncen_updater.agent")
    else ("ncen-updater",)
)
STAGE_TITLES = {
    "adopt": N_("adopt the site"),
    "check": N_("check the feed"),
    "plan": N_("plan"),
    "rehearse": N_("rehearse"),
    "upgrade": N_("upgrade"),
    "verify": N_("verify"),
    "rollback": N_("roll back"),
    "verify again": N_("verify again"),
}
STAGE_PASSED = N_("{stage}: passed, {seconds} s")
STAGE_FAILED = N_("{stage}: failed ({code}), {seconds} s")


@click.command(
    "try",
    cls=PublisherCommand,
    help=N_("Test an unsigned release on a local test site"),
)
@click.argument("directory", type=DIRECTORY_PATH)
@click.option(
    "--before", type=DIRECTORY_PATH, required=True, help=N_("Installed release of the test site")
)
@click.option(
    "--site",
    type=FILE_PATH,
    required=True,
    help=N_("agent.toml of the test site; all its data may be lost"),
)
@click.option("--agent", metavar="FILE", help=N_("Path of another ncen-updater"))
@click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIRECTORY",
    help=N_("Keep the builds, the feed and the progress, and continue from there"),
)
@click.option("--yes", is_flag=True, help=N_("Skip the confirmation prompt"))
@click.pass_context
def try_(
    context: click.Context,
    directory: Path,
    before: Path,
    site: Path,
    agent: str | None,
    keep: Path | None,
    yes: bool,
) -> ExitCode:
    from ncen_updater.common.cli.render import format_decimal
    from ncen_updater.common.messages import SANDBOX_UNUSABLE
    from ncen_updater.formats.manifest import load_manifest
    from ncen_updater.publisher.lint.release_lint import lint_release, refuse_critical_findings
    from ncen_updater.publisher.new.sandbox_run import SandboxRun, serve_feed
    from ncen_updater.publisher.new.sandbox_site import load_sandbox
    from ncen_updater.publisher.new.trial import TrialStore

    session = get_session(context)
    work = keep or Path(context.with_resource(tempfile.TemporaryDirectory(prefix="nu-try-")))
    desk = load_sandbox(site, work / "feed")
    old, new = (load_manifest(place / "manifest.toml") for place in (before, directory))
    for place in (before, directory):
        refuse_critical_findings(str(place), lint_release(place))
    for manifest in (old, new):
        if manifest.product != desk.product:
            reason = f"it runs {desk.product}, and a release is of {manifest.product}"
            raise UpdaterError(SANDBOX_UNUSABLE, path=site, reason=reason)
    session.ask_confirmation(
        LazyText(N_(
            "All data of the test site {path}, including its databases, may be lost. Continue?"),
            {"path": site}),
        assume_yes=yes,
    )  # fmt: skip

    trial = TrialStore(work, desk)

    def tell(stage: SandboxStage) -> None:
        if stage.is_passed:
            trial.pass_stage(old.version, new.version, stage.name)
        words = STAGE_PASSED if stage.is_passed else STAGE_FAILED
        values = {
            "stage": LazyText(STAGE_TITLES[stage.name]),
            "seconds": format_decimal(stage.seconds),
            "code": stage.code or str(stage.status),
        }
        session.print_message(LazyText(words, values))
        if not stage.is_passed:
            session.print_message(stage.output)

    with serve_feed(trial.feed, desk):  # check the port first: building both releases takes minutes
        with session.make_progress() as progress:
            progress.report(LazyText(N_("building both releases with temporary keys")))
            trial.publish([before, directory], get_time)
        round_ = SandboxRun(desk, [agent] if agent else AGENT_COMMAND, session.language, tell)
        stages = round_.run_stages(
            old.version, new.version, trial.list_passed_stages(old.version, new.version)
        )
        for line in round_.suggest_manifest_lines(stages, old.version, new.version):
            session.print_message(line)
        if desk.is_running():
            desk.stop_application()
    whole = all(stage.is_passed for stage in stages)
    stop = _get_downtime_s(stages)
    values = {"product": new.product, "version": new.version, "before": old.version}
    if whole:
        words = N_("Passed: upgrade from {before} to {product} {version} and rollback")
    else:
        words = N_("Failed: {product} {version}")
    show_line(session, LazyText(words, values))
    if stop is not None:
        show_line(
            session,
            LazyText(N_("Downtime: {seconds} s"), {"seconds": format_decimal(stop)}),
        )
    session.write_output(
        {
            **values,
            "passed": whole,
            "downtime_s": stop,
            "stages": [
                {
                    "name": stage.name,
                    "passed": stage.is_passed,
                    "exit_code": stage.status,
                    "code": stage.code or None,
                    "seconds": round(stage.seconds, 1),
                    "said": stage.document,
                }
                for stage in stages
            ],
        }
    )
    return ExitCode.OK if whole else ExitCode.BLOCKED


def _get_downtime_s(stages: list[SandboxStage]) -> float | None:
    """Return the downtime of the upgrade, as measured by the agent."""
    for stage in stages:
        if stage.name == "upgrade" and stage.is_passed:
            changes = stage.document.get("changes") or []
            return (
                sum(float(change.get("downtime_s") or 0) for change in changes) if changes else None
            )
    return None
