"""``support-bundle``: what the Secretariat needs to help, shown before it is written."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from ncen_updater.agent.cli.common import agent_session
from ncen_updater.common.cli.errors import NOTHING_CHANGED
from ncen_updater.common.cli.lazy import Command
from ncen_updater.common.cli.render import clean, format_bytes
from ncen_updater.common.errors import ExitCode
from ncen_updater.common.i18n import N_, Text

__all__ = ["support_bundle"]


@click.command("support-bundle", cls=Command, help=N_("Gather what the Secretariat needs to help."))
@click.option(
    "--output", type=click.Path(path_type=Path), metavar="FILE",
    help=N_("Where to write it; ncen-support-DATE.tar.gz here by default."),
)  # fmt: skip
@click.option("--leave-out", multiple=True, metavar="PART", help=N_("Leave a part out."))
@click.option("--show", multiple=True, metavar="PART", help=N_("Show what a part holds."))
@click.option(
    "--unchecked", is_flag=True,
    help=N_("Take sentences of others in, too, where a database cannot be read."),
)  # fmt: skip
@click.option("--yes", is_flag=True, help=N_("Answer the question with yes."))
@click.option("--dry-run", is_flag=True, help=N_("Say what would be done, and change nothing."))
@click.pass_context
def support_bundle(
    context: click.Context,
    output: Path | None,
    leave_out: tuple[str, ...],
    show: tuple[str, ...],
    unchecked: bool,
    yes: bool,
    dry_run: bool,
) -> ExitCode:
    from ncen_updater.agent.diagnostics.support_bundle.bundle import make_bundle, write_bundle
    from ncen_updater.agent.diagnostics.support_bundle.gather import PARTS
    from ncen_updater.common.errors import UpdaterError
    from ncen_updater.common.messages import BUNDLE_LEAKS, UNKNOWN_PART

    session = agent_session(context)
    for name in show:
        if name not in PARTS:
            raise UpdaterError(
                UNKNOWN_PART, part=name, parts=", ".join(PARTS), state=NOTHING_CHANGED
            )
    now = datetime.now(UTC)
    path = output or Path(f"ncen-support-{now:%Y%m%d-%H%M%S}.tar.gz")
    with session.progress() as progress:
        progress.tell(Text(N_("gathering")))
        bundle = make_bundle(
            session.config, progress, now, leave_out=leave_out, unchecked=unchecked
        )
    for part in bundle.parts:
        if part.text is None:
            values = {"part": part.name, "reason": part.missing}
            session.show(Text(N_("  {part}: missing ({reason})"), values))
        else:
            size = format_bytes(len(part.text.encode()))
            session.show(f"  {part.name}: {size}")
        if part.name in show:
            for line in (part.text or "").splitlines():
                session.show(f"    {clean(line)}")
    for name, reason in bundle.unread.items():
        values = {"database": name, "reason": reason}
        session.show(Text(N_("Not compared with database {database}: {reason}"), values))
    for leak in bundle.leaks:
        values = {"part": leak.part, "column": leak.column}
        session.show(Text(N_("A value of {column} stands in {part}."), values))
    document: dict[str, object] = {
        "parts": {
            part.name: {"missing": part.missing}
            if part.text is None
            else {"bytes": len(part.text.encode())}
            for part in bundle.parts
        },
        "shown": {part.name: part.text for part in bundle.parts if part.name in show},
        "leaks": [{"part": leak.part, "column": leak.column} for leak in bundle.leaks],
        "not_compared_with": bundle.unread,
        "path": None,
        "bytes": None,
    }
    if dry_run:
        session.finish(document)
        return ExitCode.BLOCKED if bundle.leaks else ExitCode.OK
    if bundle.leaks:
        first = bundle.leaks[0]
        raise UpdaterError(
            BUNDLE_LEAKS, part=first.part, column=first.column, state=NOTHING_CHANGED
        )
    session.agree(Text(N_("Write this to {path}?"), {"path": path}), yes=yes)
    size_bytes = write_bundle(bundle, path, now)
    said: dict[str, object] = {"path": path, "size": format_bytes(size_bytes)}
    session.show(Text(N_("Written: {path}, {size}. Send it the way your country allows."), said))
    session.finish({**document, "path": path, "bytes": size_bytes})
    return ExitCode.OK
