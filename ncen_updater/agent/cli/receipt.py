"""``receipt``: what this site tells the Secretariat of itself, seen before it leaves."""

from __future__ import annotations

import io
import os
import sys
import tempfile
from dataclasses import dataclass, replace
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
    RECEIPT_NOT_ROOT,
    RECEIPT_UNWRITABLE,
    ExitCode,
)

if TYPE_CHECKING:
    from ncen_updater.agent.cli.session import AgentSession
    from ncen_updater.agent.engine.site import Site
    from ncen_updater.agent.storage.journal.journal import Journal
    from ncen_updater.formats.receipt import Receipt, ReceiptLevel, SignedReceipt

RECEIPTS_ARE_OFF = N_("Receipts are off: this site tells nothing.")
LEVEL_SHOWN = N_("Level of receipts: {level}")
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
@click.option("--show", is_flag=True, help=N_("Show the next receipt in sentences and in bytes"))
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
    show: bool,
    all_levels: bool,
    send: bool,
    qr: bool,
    mail: bool,
    scheduled: bool,
    yes: bool,
    dry_run: bool,
) -> ExitCode:
    from ncen_updater.agent.model.event_names import JOURNAL_FILE
    from ncen_updater.agent.reports.receipt import read_receipt_state
    from ncen_updater.agent.storage.journal.journal import Journal
    from ncen_updater.formats.receipt import ReceiptLevel

    sends, writes = send or mail or scheduled, directory is not None or qr
    if (show or all_levels) and (level or sends or writes):
        words = N_("--show and --all-levels show only, without other options")
        raise CommandUsageError(words, context)
    session = get_agent_session(context)
    site = session.open_site()
    reads_only = dry_run or not (level or sends or writes)
    file = site.state_directory / JOURNAL_FILE
    if os.access(file, os.R_OK) and not os.access(file, os.W_OK):
        raise UpdaterError(RECEIPT_NOT_ROOT)  # the key is readable by root alone
    with Journal.open(file, read_only=reads_only) as journal:
        desk = _ReceiptDesk(session, site, journal, read_receipt_state(journal).level)
        if all_levels:
            return desk.show_levels(in_bytes=show)
        if level is not None:
            if level != desk.level and not dry_run:
                desk.set_level(ReceiptLevel(level), yes=yes)
            desk = replace(desk, level=ReceiptLevel(level))
            if level == "none" and not (writes or send):
                return desk.report(None, None)
        if writes and not dry_run:
            return desk.write(directory, qr=qr)
        if sends and not dry_run:
            return desk.send(None if scheduled else "mailto" if mail else "https", yes=yes)
        return desk.show_next(in_bytes=show)


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
    from ncen_updater.agent.reports.receipt import read_receipt_state
    from ncen_updater.agent.storage.journal.journal import Journal

    site = session.open_site()
    file = site.state_directory / JOURNAL_FILE
    if not os.access(file, os.W_OK):
        return None  # the first bundle comes before the journal; and only root writes receipts
    with Journal.open(file) as journal:
        state = read_receipt_state(journal)
        desk = _ReceiptDesk(session, site, journal, state.level)
        if state.level == "none":
            if wanted:
                session.add_line(LazyText(RECEIPTS_ARE_OFF))
            return None
        if not (wanted and state.is_begun):
            if not (sys.stdin.isatty() and sys.stderr.isatty()):
                words = N_(
                    "To write a receipt beside the bundle, run: ncen-updater receipt --to {path}"
                )
                session.add_line(LazyText(words, {"path": directory}))
                return None
            try:
                words = N_("Write this receipt into {path}?")
                desk.ask(LazyText(words, {"path": directory}), yes=False)
            except UpdaterError as error:
                if error.message is CONFIRMATION_DECLINED:
                    return None
                raise
        signed, path = desk.write_file(directory)
    session.add_line(LazyText(N_("Written: {path}"), {"path": path}))
    desk.show_fingerprint(signed)
    return path


@dataclass(frozen=True)
class _ReceiptDesk:
    """What a run shows, writes or sends at one site, at the level that people agreed to."""

    session: AgentSession
    site: Site
    journal: Journal
    level: ReceiptLevel

    def prepare(self, level: ReceiptLevel | None = None) -> tuple[Receipt, str]:
        from ncen_updater.agent.reports.receipt import prepare_receipt

        return prepare_receipt(self.site, self.journal, level or self.level)

    def ask(self, question: LazyText, level: ReceiptLevel | None = None, *, yes: bool) -> None:
        """Show the next receipt at once, and ask about it."""
        for line in self.prepare(level)[0].format_lines():
            self.session.print_message(LazyText("  {line}", {"line": line}))
        self.session.ask_confirmation(question, assume_yes=yes)

    def report(self, receipt: Receipt | None, place: Path | str | None, **more: object) -> ExitCode:
        shown = receipt and receipt.to_json()
        document = {"level": self.level, "receipt": shown, "path": place, **more}
        self.session.write_output(document)
        return ExitCode.OK

    def add_lines(self, receipt: Receipt) -> None:
        for line in receipt.format_lines():
            self.session.add_line(LazyText("  {line}", {"line": line}))

    def add_level(self, words: str, level: ReceiptLevel) -> None:
        from ncen_updater.formats.receipt import describe_word

        self.session.add_line(LazyText(words, {"level": describe_word(level)}))

    def add_next(self, level: ReceiptLevel, *, in_bytes: bool) -> tuple[Receipt, str]:
        """Show the next receipt at a level; return it, and the bytes that would be signed.

        They are not signed: a receipt that nobody allowed must not be there to be sent.
        """
        from ncen_updater.formats.receipt import encode_statement

        following, release = self.prepare(level)
        statement = encode_statement(following, release).decode()
        self.add_lines(following)
        if in_bytes:
            self.session.add_line(LazyText(N_("These bytes are signed:")))
            self.session.add_line(statement.rstrip())
        return following, statement

    def show_next(self, *, in_bytes: bool) -> ExitCode:
        """Show the next receipt; where nobody agreed, what the lowest level would say."""
        from ncen_updater.formats.receipt import ReceiptLevel

        if self.level is ReceiptLevel.NONE:
            self.session.add_line(LazyText(RECEIPTS_ARE_OFF))
            self.session.add_line(LazyText(N_("A receipt of the level 'version' would say:")))
        else:
            self.add_level(N_("The next receipt (level: {level}):"), self.level)
        level = ReceiptLevel.VERSION if self.level is ReceiptLevel.NONE else self.level
        following, statement = self.add_next(level, in_bytes=in_bytes)
        if self.level is ReceiptLevel.NONE:
            words = N_("To allow this, run: ncen-updater receipt --level version")
            self.session.add_line(LazyText(words))
        return self.report(following, None, statement=statement)

    def show_levels(self, *, in_bytes: bool) -> ExitCode:
        """Show the next receipt as each level would have it."""
        from ncen_updater.formats.receipt import ReceiptLevel

        shown = []
        for level in list(ReceiptLevel)[1:]:
            self.add_level(LEVEL_SHOWN, level)
            following, statement = self.add_next(level, in_bytes=in_bytes)
            shown.append({
                "level": level,
                "sentences": [
                    line.render(self.session.language) for line in following.format_lines()
                ],
                "statement": statement,
            })  # fmt: skip
        self.session.write_output({"level": self.level, "levels": shown})
        return ExitCode.OK

    def set_level(self, wanted: ReceiptLevel, *, yes: bool) -> None:
        """Set the level; who raises it sees what would be sent, and is asked."""
        from ncen_updater.agent.reports.receipt import set_receipt_level

        if wanted.rank > self.level.rank:
            words = N_("Allow receipts that tell the Secretariat this?")
            self.ask(LazyText(words), wanted, yes=yes)
        set_receipt_level(self.journal, wanted, get_invoking_user())
        if wanted == "none":
            self.session.add_line(LazyText(RECEIPTS_ARE_OFF))
        else:
            self.add_level(LEVEL_SHOWN, wanted)

    def write_file(self, directory: Path) -> tuple[SignedReceipt, Path]:
        from ncen_updater.agent.reports.receipt import write_receipt

        actor = get_invoking_user()
        try:
            return write_receipt(self.site, self.journal, self.level, directory, actor)
        except OSError as error:
            raise UpdaterError(RECEIPT_UNWRITABLE, path=directory, detail=str(error)) from error

    def write(self, directory: Path | None, *, qr: bool) -> ExitCode:
        """Write the next receipt into a directory, show it as a QR code, or both."""
        with tempfile.TemporaryDirectory() as unused:
            signed, path = self.write_file(directory or Path(unused))
        self.add_lines(signed.receipt)
        if directory is not None:
            self.session.add_line(LazyText(N_("Written: {path}"), {"path": path}))
        if qr:
            import segno

            picture = io.StringIO()
            segno.make_qr(signed.content.decode()).terminal(picture, border=2, compact=True)
            for line in picture.getvalue().splitlines():
                self.session.add_line(line)
        fingerprint = self.show_fingerprint(signed)
        place = None if directory is None else path
        return self.report(signed.receipt, place, fingerprint=fingerprint)

    def send(self, way: str | None, *, yes: bool) -> ExitCode:
        """Send what is next; without a way, as the last person did, and only if it is due."""
        from ncen_updater.agent.reports import receipt as receipts
        from ncen_updater.agent.service.notifications.notifier import send_receipt

        scheduled, actor = way is None, get_invoking_user()
        if scheduled:
            due = receipts.find_due_receipt(self.journal)
            if due is None or due[0] > self.journal.read_time():
                return self.report(None, None)
            way = due[1]
        self.prepare()  # that receipts are off is said first
        addresses = receipts.list_addresses(self.site)
        address = next((one for one in addresses if one.startswith(f"{way}:")), None)
        if address is None or way is None:
            raise UpdaterError(RECEIPT_ADDRESS_UNKNOWN, way=way)
        if not scheduled:
            words = N_("Send this receipt to {address}?")
            self.ask(LazyText(words, {"address": address}), yes=yes)
        try:
            receipts.queue_receipt(self.site, self.journal, self.level, actor)
        except OSError as error:
            place = self.site.state_directory / receipts.OUTGOING_DIRECTORY
            raise UpdaterError(RECEIPT_UNWRITABLE, path=place, detail=str(error)) from error
        config = self.session.config, self.site.config
        sent = receipts.send_outgoing(
            self.journal, self.level, lambda one: send_receipt(*config, address, one.content),
            way=way, actor=actor, scheduled=scheduled,
        )  # fmt: skip
        self.session.add_line(LazyText(N_("Sent to {address}"), {"address": address}))
        receipt, fingerprint = sent[-1].receipt, self.show_fingerprint(sent[-1])
        return self.report(receipt, address, fingerprint=fingerprint)

    def show_fingerprint(self, signed: SignedReceipt) -> str:
        """Return the key's fingerprint; say of the first receipt's where it has to be read out."""
        from ncen_updater.common.cli.render import group_digest
        from ncen_updater.formats.receipt import compute_fingerprint

        fingerprint = compute_fingerprint(signed.receipt.key)
        if signed.receipt.number == 1:
            words = N_("Read this fingerprint to the Secretariat by telephone: {fingerprint}")
            self.session.add_line(LazyText(words, {"fingerprint": group_digest(fingerprint)}))
        return fingerprint
