"""``doctor``, ``verify`` and ``support-bundle``: problems of a site."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from ncen_updater.agent.cli.common import agent_command, dry_run_option, yes_option
from ncen_updater.agent.cli.session import AgentSession
from ncen_updater.agent.reports.command_results import CommandResult
from ncen_updater.common.cli.render import format_bytes
from ncen_updater.common.cli.usage import NOTHING_CHANGED, CommandUsageError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import ExitCode


@agent_command
def doctor(session: AgentSession) -> ExitCode:
    return session.show_result(session.get_nearest_client().run_doctor())


@agent_command
@click.option(
    "--head",
    "head_texts",
    multiple=True,
    metavar="NUMBER:HASH",
    help=N_("Check that this chain head is in the audit log"),
)
@click.option(
    "--journal",
    "journal_only",
    is_flag=True,
    help=N_("Verify the audit log only"),
)
def verify(session: AgentSession, head_texts: tuple[str, ...], journal_only: bool) -> ExitCode:
    from ncen_updater.agent.storage.journal.rows import ChainHead

    try:
        heads = [ChainHead.parse(text) for text in head_texts]
    except ValueError as error:
        wanted = N_("expected NUMBER:HASH")
        raise CommandUsageError(wanted, hint="--head") from error
    return session.show_result(
        session.get_nearest_client().verify(heads, journal_only=journal_only)
    )


@agent_command
@click.option(
    "--output", type=click.Path(path_type=Path), metavar="FILE",
    help=N_("Output file (default: ncen-support-DATE.tar.gz)"),
)  # fmt: skip
@click.option(
    "--leave-out", multiple=True, metavar="PART", help=N_("Omit a part; --dry-run lists them")
)
@click.option("--show", multiple=True, metavar="PART", help=N_("Show the content of a part"))
@yes_option
@dry_run_option
@click.option(
    "--in-document", is_flag=True,
    hidden=True,
)  # fmt: skip
def support_bundle(
    session: AgentSession,
    output: Path | None,
    leave_out: tuple[str, ...],
    show: tuple[str, ...],
    yes: bool,
    dry_run: bool,
    in_document: bool,
) -> ExitCode:
    import base64

    from ncen_updater.agent.reports.diagnostics.support_bundle.bundle import (
        require_parts,
        write_archive,
    )
    from ncen_updater.common.errors import UpdaterError
    from ncen_updater.common.messages import BUNDLE_LEAKS

    # Checked here, since the service would report only that a name is invalid.
    require_parts((*leave_out, *show))
    if in_document:
        return _finish_in_document(session, leave_out, show)
    now = datetime.now(UTC)
    path = output or Path(f"ncen-support-{now:%Y%m%d-%H%M%S}.tar.gz")
    found = session.get_nearest_client().collect_support_bundle(leave_out, show)
    if found.error is not None:
        raise found.error
    for line in found.lines:
        session.add_line(line)
    document = {key: value for key, value in found.document.items() if key != "archive"}
    if dry_run:
        session.write_output({**document, "path": None, "bytes": None})
        return found.exit_code
    for leak in found.document["leaks"]:
        raise UpdaterError(
            BUNDLE_LEAKS, part=leak["part"], column=leak["column"], state=NOTHING_CHANGED
        )
    session.ask_confirmation(
        LazyText(N_("Write the support bundle to {path}?"), {"path": path}), assume_yes=yes
    )
    # Written by this process with the user's permissions: the service never learns the path.
    size_bytes = write_archive(base64.b64decode(found.document["archive"]), path)
    values: dict[str, object] = {"path": path, "size": format_bytes(size_bytes)}
    session.add_line(
        LazyText(
            N_(
                "Written: {path} ({size}). Send it to the Secretariat through a channel approved"
                " for confidential data."
            ),
            values,
        )
    )
    session.write_output({**document, "path": path, "bytes": size_bytes})
    return ExitCode.OK


def _finish_in_document(
    session: AgentSession, leave_out: tuple[str, ...], show: tuple[str, ...]
) -> ExitCode:
    """Output the bundle in the document, for the service; no texts if it has a database value."""
    found = session.get_local_site().collect_support_bundle(leave_out, show)
    if found.document["leaks"]:
        document = {**found.document, "shown": {}}
        lines = [line for line in found.lines if not str(line).startswith("    ")]
        found = CommandResult(document, lines, found.exit_code)
    return session.show_result(found)
