"""``import`` and ``mirror``: import releases from offline media; maintain a national mirror."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ncen_updater.agent.cli.common import agent_command, dry_run_option
from ncen_updater.agent.cli.session import AgentSession
from ncen_updater.common.cli.lazy import IntegerRange
from ncen_updater.common.cli.render import format_bytes, format_time
from ncen_updater.common.cli.usage import CommandUsageError
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import ExitCode

if TYPE_CHECKING:
    from ncen_updater.agent.adapters.feed_reader.worker_source import WorkerReleaseSource

FILE_TYPE = click.Path(path_type=Path, dir_okay=False)


@agent_command
@click.argument("file", metavar="FILE", type=FILE_TYPE, required=False)
@dry_run_option
@click.option(
    "--job",
    type=IntegerRange(min=1),
    metavar="N",
    hidden=True,
)
def import_(session: AgentSession, file: Path | None, dry_run: bool, job: int | None) -> ExitCode:
    if job is not None and file is None:
        return session.show_result(session.get_local_site().import_for_job(job, dry_run=dry_run))
    if file is None or job is not None:
        raise CommandUsageError(N_("specify a file"))
    # A user with write access reads the medium directly, without the import directory.
    result = session.get_nearest_client().import_bundle(file, dry_run=dry_run)
    if result.error is None and not dry_run:
        from ncen_updater.agent.cli.receipt import suggest_receipt

        result = replace(result, lines=[*result.lines, *suggest_receipt(session, file.absolute())])
    return session.show_result(result)


@agent_command
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--from-bundle",
    "file",
    type=FILE_TYPE,
    help=N_("Use an offline bundle instead of the feed"),
)
@click.option(
    "--keep",
    type=IntegerRange(1, 1000),
    metavar="N",
    help=N_("Keep the N newest releases of each product and all required releases"),
)
@dry_run_option
def mirror(
    session: AgentSession,
    directory: Path,
    file: Path | None,
    keep: int | None,
    dry_run: bool,
) -> ExitCode:
    from ncen_updater.agent.adapters.feed_reader.worker_source import WorkerReleaseSource
    from ncen_updater.agent.config.loader import load_config

    request: dict[str, object] = {
        "act": "mirror",
        "directory": str(directory.absolute()),
        "file": None if file is None else str(file.absolute()),
        "keep": keep,
        "dry_run": dry_run,
    }
    with session.make_progress() as progress:
        source = WorkerReleaseSource(load_config(session.config), session.config)
        if not dry_run:
            source.create_worker_directory(directory.absolute())
        report = dict(source.run_request(request, progress))
        if not dry_run:
            _require_newest_mirror(source, directory.absolute(), from_bundle=file is not None)
    releases = report["releases"]
    assert isinstance(releases, dict), "the source's own report"  # noqa: S101
    for product, versions in releases.items():
        shown = {"name": product, "text": ", ".join(versions) or LazyText(N_("none"))}
        session.add_line(LazyText(N_("Releases of {name}: {text}"), shown))
    until = datetime.fromisoformat(str(report["expires_at"]))
    values = {
        "size": format_bytes(int(str(report["downloaded_bytes"]))),
        "removed": report["removed_files"],
        "until": format_time(until, session.zone),
    }
    session.add_line(
        LazyText(
            N_("Would be downloaded: {size}; removed: {removed} files")
            if dry_run
            else N_("Downloaded: {size}; removed: {removed} files"),
            values,
        )
    )
    expiry = N_(
        "Metadata expires {until} for sites without 'mirror_grace_days'."
        " Update the mirror before then."
    )
    session.add_line(LazyText(expiry, values))
    session.write_output({"directory": str(directory), "changed": not dry_run, **report})
    return ExitCode.OK


def _require_newest_mirror(
    source: WorkerReleaseSource, directory: Path, *, from_bundle: bool
) -> None:
    """Refuse a mirror that is older than the verified metadata.

    The cause of an old bundle is known: it is reported as MIRROR_OLDER, not as an attack.

    Raises:
        UpdaterError: If the mirror is older.
    """
    from ncen_updater.common.messages import METADATA_OLDER_THAN_TRUSTED, MIRROR_OLDER

    try:
        source.require_fresh_mirror(directory)
    except UpdaterError as error:
        if not from_bundle or error.code != METADATA_OLDER_THAN_TRUSTED.code:
            raise
        role = error.values["role"]
        raise UpdaterError(MIRROR_OLDER, path=directory, role=role) from error
