"""``receipt``: what this site tells the Secretariat of itself, seen before it leaves."""

from __future__ import annotations

import io
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ncen_updater.agent.cli.common import dry_run_option, get_agent_session, yes_option
from ncen_updater.common.cli.lazy import CliCommand
from ncen_updater.common.cli.program import get_invoking_user
from ncen_updater.common.cli.usage import CommandUsageError
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import (
    CONFIRMATION_DECLINED,
    RECEIPT_ADDRESS_UNKNOWN,
    RECEIPT_UNWRITABLE,
    ExitCode,
)

if TYPE_CHECKING:
    from ncen_updater.agent.cli.session import AgentSession
    from ncen_updater.agent.engine.site import Site
    from ncen_updater.agent.storage.journal.journal import Journal
    from ncen_updater.formats.receipt import Receipt, ReceiptLevel, SignedReceipt

RECEIPTS_ARE_OFF = N_("Receipts are off: this site tells nothing.")
LEVELS = ("none", "version", "outcome", "figures")


@click.command("receipt", cls=CliCommand, help=N_("Show, allow and write receipts of this site"))
@click.option(
    "--level", type=click.Choice(LEVELS), help=N_("Set what receipts may say (default: none)")
)
@click.option(
    "--to", "directory", metavar="DIRECTORY",
    type=click.Path(path_type=Path, file_okay=False),
    help=N_("Write the next receipt into a directory, such as a USB stick"),
)  # fmt: skip
@click.option("--all-levels", is_flag=True, help=N_("Show what each level would say"))
@click.option("--send", is_flag=True, help=N_("Send the next receipt to the Secretariat"))
@click.option("--qr", is_flag=True, help=N_("Show the next receipt as a QR code"))
@click.option("--mail", is_flag=True, help=N_("Send it by mail"))
@click.option("--scheduled", is_flag=True, hidden=True)
@yes_option
@dry_run_option
@click.pass_context
def receipt(
    context: click.Context,
    level: str | None,
    directory: Path | None,
    all_levels: bool,
    send: bool,
    qr: bool,
    mail: bool,
    scheduled: bool,
    yes: bool,
    dry_run: bool,
) -> ExitCode:
    from ncen_updater.agent.model.event_names import JOURNAL_FILE
    from ncen_updater.agent.reports.receipt import prepare_receipt, read_receipt_state
    from ncen_updater.agent.storage.journal.journal import Journal
    from ncen_updater.formats.receipt import ReceiptLevel, describe_word

    if all_levels and (level or directory or send or qr or mail or scheduled):
        raise CommandUsageError(N_("--all-levels shows only, without other options"), context)
    session = get_agent_session(context)
    site = session.open_site()
    reads_only = dry_run or not (level or directory or send or qr or mail or scheduled)
    with Journal.open(site.state_directory / JOURNAL_FILE, read_only=reads_only) as journal:
        agreed = read_receipt_state(journal).level
        if all_levels:
            return _show_levels(session, site, journal, agreed)
        if level is not None:
            agreed = _set_level(session, site, journal, agreed, ReceiptLevel(level), yes, dry_run)
            if agreed is ReceiptLevel.NONE and not (directory or send or qr):
                session.write_output({"level": agreed, "receipt": None, "path": None})
                return ExitCode.OK
        if (directory is not None or qr) and not dry_run:
            return _write(session, site, journal, agreed, directory, qr=qr)
        if (send or mail or scheduled) and not dry_run:
            way = None if scheduled else "mailto" if mail else "https"
            return _send(session, site, journal, agreed, way, assume_yes=yes)
        # Who has not agreed to anything sees what the lowest level would say.
        shown = agreed if agreed is not ReceiptLevel.NONE else ReceiptLevel.VERSION
        following, _ = prepare_receipt(site, journal, shown)
    if agreed is ReceiptLevel.NONE:
        session.add_line(LazyText(RECEIPTS_ARE_OFF))
        session.add_line(LazyText(N_("A receipt of the level 'version' would say:")))
    else:
        session.add_line(
            LazyText(N_("The next receipt (level: {level}):"), {"level": describe_word(agreed)})
        )
    _show(session, following)
    session.write_output({"level": agreed, "receipt": following.to_json(), "path": None})
    return ExitCode.OK


def _show_levels(
    session: AgentSession, site: Site, journal: Journal, agreed: ReceiptLevel
) -> ExitCode:
    """Show the next receipt as each level would have it, and the bytes that would be signed.

    They are not signed: a receipt that nobody allowed must not be there to be sent.
    """
    from ncen_updater.agent.reports.receipt import prepare_receipt
    from ncen_updater.formats.receipt import ReceiptLevel, describe_word, encode_statement

    shown = []
    for level in list(ReceiptLevel)[1:]:
        following, release = prepare_receipt(site, journal, level)
        session.add_line(
            LazyText(N_("Level of receipts: {level}"), {"level": describe_word(level)})
        )
        _show(session, following)
        shown.append({
            "level": level,
            "sentences": [line.render(session.language) for line in following.format_lines()],
            "statement": encode_statement(following, release).decode(),
        })  # fmt: skip
    session.write_output({"level": agreed, "levels": shown})
    return ExitCode.OK


def _set_level(
    session: AgentSession,
    site: Site,
    journal: Journal,
    agreed: ReceiptLevel,
    wanted: ReceiptLevel,
    yes: bool,
    dry_run: bool,
) -> ReceiptLevel:
    """Set the level; who raises it sees what would be said, and is asked. Return the new one."""
    from ncen_updater.agent.reports.receipt import prepare_receipt, set_receipt_level
    from ncen_updater.formats.receipt import ReceiptLevel, describe_word

    if wanted.rank > agreed.rank and not dry_run:
        _show(session, prepare_receipt(site, journal, wanted)[0], at_once=True)
        session.ask_confirmation(
            LazyText(N_("Allow receipts that tell the Secretariat this?")), assume_yes=yes
        )
    if wanted is not agreed and not dry_run:
        set_receipt_level(journal, wanted, get_invoking_user())
        text = LazyText(N_("Level of receipts: {level}"), {"level": describe_word(wanted)})
        session.add_line(LazyText(RECEIPTS_ARE_OFF) if wanted is ReceiptLevel.NONE else text)
    return wanted


def offer_receipt(session: AgentSession, directory: Path, *, wanted: bool) -> Path | None:
    """Write the next receipt onto the medium that brought a bundle, if a person agrees.

    Args:
        session: Of the run.
        directory: Where the bundle is.
        wanted: Whether nobody has to be asked; the first receipt of a level is shown all the same.

    Returns:
        The file; None if none was written.

    Raises:
        RECEIPT_UNWRITABLE: If it cannot be written.
    """
    from ncen_updater.agent.model.event_names import JOURNAL_FILE
    from ncen_updater.agent.reports.receipt import prepare_receipt, read_receipt_state
    from ncen_updater.agent.storage.journal.journal import Journal
    from ncen_updater.formats.receipt import ReceiptLevel

    site = session.open_site()
    file = site.state_directory / JOURNAL_FILE
    if not os.access(file, os.W_OK):
        return None  # the first bundle comes before the journal; and only root writes receipts
    with Journal.open(file) as journal:
        state = read_receipt_state(journal)
        if state.level is ReceiptLevel.NONE:
            if wanted:
                session.add_line(LazyText(RECEIPTS_ARE_OFF))
            return None
        if not (wanted and state.is_begun):
            if not (sys.stdin.isatty() and sys.stderr.isatty()):
                words = N_("To return a receipt with it, run: ncen-updater receipt --to {path}")
                session.add_line(LazyText(words, {"path": directory}))
                return None
            _show(session, prepare_receipt(site, journal, state.level)[0])
            question = LazyText(N_("Write this receipt into {path}?"), {"path": directory})
            try:
                session.ask_confirmation(question, assume_yes=False)
            except UpdaterError as error:
                if error.message is CONFIRMATION_DECLINED:
                    return None
                raise
        signed, path = _write_file(site, journal, state.level, directory)
    session.add_line(LazyText(N_("Written: {path}"), {"path": path}))
    _show_fingerprint(session, signed)
    return path


def _write_file(
    site: Site, journal: Journal, level: ReceiptLevel, directory: Path
) -> tuple[SignedReceipt, Path]:
    from ncen_updater.agent.reports.receipt import write_receipt

    try:
        signed, path = write_receipt(site, journal, level, directory, get_invoking_user())
    except OSError as error:
        raise UpdaterError(RECEIPT_UNWRITABLE, path=directory, detail=str(error)) from error
    return signed, path


def _write(
    session: AgentSession,
    site: Site,
    journal: Journal,
    level: ReceiptLevel,
    directory: Path | None,
    *,
    qr: bool,
) -> ExitCode:
    with tempfile.TemporaryDirectory() as unused:
        place = directory or Path(unused)
        signed, path = _write_file(site, journal, level, place)
    _show(session, signed.receipt)
    if directory is not None:
        session.add_line(LazyText(N_("Written: {path}"), {"path": path}))
    if qr:
        import segno

        picture = io.StringIO()
        segno.make_qr(signed.content.decode()).terminal(picture, border=2, compact=True)
        for line in picture.getvalue().splitlines():
            session.add_line(line)
    _report(session, signed, None if directory is None else path)
    return ExitCode.OK


def _send(
    session: AgentSession,
    site: Site,
    journal: Journal,
    level: ReceiptLevel,
    way: str | None,
    *,
    assume_yes: bool,
) -> ExitCode:
    """Send what is next; without a way, as the last person did, and only if it is due."""
    from ncen_updater.agent.reports.receipt import (
        OUTGOING_DIRECTORY,
        find_due_receipt,
        list_addresses,
        prepare_receipt,
        queue_receipt,
        send_outgoing,
    )
    from ncen_updater.agent.service.notifications.notifier import send_receipt

    scheduled = way is None
    due = find_due_receipt(journal) if scheduled else None
    if scheduled and (due is None or due[0] > journal.read_time()):
        session.write_output({"level": level, "receipt": None, "path": None})
        return ExitCode.OK
    way = way or (due[1] if due else "")
    following, _ = prepare_receipt(site, journal, level)
    address = next((one for one in list_addresses(site) if one.startswith(f"{way}:")), None)
    if address is None:
        raise UpdaterError(RECEIPT_ADDRESS_UNKNOWN, way=way)
    if not scheduled:
        _show(session, following, at_once=True)
        words = LazyText(N_("Send this receipt to {address}?"), {"address": address})
        session.ask_confirmation(words, assume_yes=assume_yes)
    actor = get_invoking_user()
    try:
        queue_receipt(site, journal, level, actor)
    except OSError as error:
        place = site.state_directory / OUTGOING_DIRECTORY
        raise UpdaterError(RECEIPT_UNWRITABLE, path=place, detail=str(error)) from error
    sent = send_outgoing(
        journal, level,
        lambda one: send_receipt(session.config, site.config, address, one.content),
        way=way, actor=actor, scheduled=scheduled,
    )  # fmt: skip
    session.add_line(LazyText(N_("Sent to {address}"), {"address": address}))
    _report(session, sent[-1], address)
    return ExitCode.OK


def _report(session: AgentSession, signed: SignedReceipt, place: Path | str | None) -> None:
    session.write_output({
        "level": signed.receipt.level, "receipt": signed.receipt.to_json(), "path": place,
        "fingerprint": _show_fingerprint(session, signed),
    })  # fmt: skip


def _show_fingerprint(session: AgentSession, signed: SignedReceipt) -> str:
    """Return the key's fingerprint; say of the first receipt's where it has to be read out."""
    from ncen_updater.common.cli.render import group_digest
    from ncen_updater.formats.receipt import compute_fingerprint

    fingerprint = compute_fingerprint(signed.receipt.key)
    if signed.receipt.number == 1:
        words = N_("Read this fingerprint to the Secretariat by telephone: {fingerprint}")
        session.add_line(LazyText(words, {"fingerprint": group_digest(fingerprint)}))
    return fingerprint


def _show(session: AgentSession, what: Receipt, *, at_once: bool = False) -> None:
    """Say it in sentences, one a field; ``at_once`` before a question is asked."""
    for line in what.format_lines():
        if at_once:
            session.print_message(LazyText("  {line}", {"line": line}))
        else:
            session.add_line(LazyText("  {line}", {"line": line}))
