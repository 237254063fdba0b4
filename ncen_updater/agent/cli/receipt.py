"""``receipt``: the data that this site shares with the Secretariat, shown before it is sent."""

from __future__ import annotations

import io
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ncen_updater.agent.cli.common import agent_command, yes_option
from ncen_updater.agent.cli.event_text import format_event
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.reports import receipt as receipts
from ncen_updater.agent.service.notifications.notifier import send_receipt
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.cli.program import get_invoking_user
from ncen_updater.common.cli.render import encode_as_words, format_date
from ncen_updater.common.cli.usage import OPTION_NEEDED, CommandUsageError
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import (
    RECEIPT_ADDRESS_UNKNOWN,
    RECEIPT_NOT_ROOT,
    RECEIPT_QR_TOO_LARGE,
    RECEIPT_UNWRITABLE,
    ExitCode,
)
from ncen_updater.formats.receipt import (
    Receipt,
    ReceiptLevel,
    SignedReceipt,
    compute_fingerprint,
    encode_statement,
)

if TYPE_CHECKING:
    from ncen_updater.agent.cli.session import AgentSession
    from ncen_updater.agent.engine.site import Site

RECEIPTS_ARE_OFF = N_("Receipts are off: this site sends nothing.")
#: Columns and lines of the QR code of the largest receipt in a terminal.
QR_SIZE = (117, 59)


@agent_command
@click.option(
    "--level", type=click.Choice([one.value for one in ReceiptLevel]),
    help=N_("Set what receipts may say (default: none)"),
)  # fmt: skip
@click.option(
    "--to", "directory", metavar="DIRECTORY", type=click.Path(path_type=Path, file_okay=False),
    help=N_("Write the next receipt into a directory, such as a USB stick"),
)  # fmt: skip
@click.option("--all-levels", is_flag=True, help=N_("Show what each level would say"))
@click.option("--send", is_flag=True, help=N_("Send the next receipt by HTTPS"))
@click.option("--qr", is_flag=True, help=N_("Show the next receipt as a QR code"))
@click.option("--mail", is_flag=True, help=N_("Send the next receipt by mail"))
@click.option("--scheduled", is_flag=True, hidden=True)
@yes_option
def receipt(
    session: AgentSession,
    level: str | None,
    directory: Path | None,
    all_levels: bool,
    send: bool,
    qr: bool,
    mail: bool,
    scheduled: bool,
    yes: bool,
) -> ExitCode:
    sends, writes = send or mail or scheduled, directory is not None or qr
    reads_only = not (level or sends or writes)
    if sum((all_levels, writes, send, mail, scheduled, bool(level) and all_levels)) > 1:
        raise CommandUsageError(
            N_("use only one of --all-levels, --send, --mail, and --to or --qr")
        )
    site = session.open_site()
    file = site.state_directory / JOURNAL_FILE
    if os.access(file, os.R_OK) and not os.access(file, os.W_OK):
        raise UpdaterError(RECEIPT_NOT_ROOT)  # only root can read the key
    with Journal.open(file, read_only=reads_only) as journal:
        state = receipts.read_receipt_state(journal)
        command = _ReceiptCommand(session, site, journal, state.level)
        if all_levels:
            return command.show_levels()
        if level is not None:
            if level != command.level:
                command.set_level(ReceiptLevel(level), yes=yes)
            command = replace(command, level=ReceiptLevel(level))
            session.add_line(LazyText(N_("Level of receipts: {level}"), {"level": level}))
            if not (writes or sends):
                session.add_line(command.describe_level())
                return command.report(None, None)
        if writes:
            return command.write(directory, qr=qr)
        if sends:
            return command.send(None if scheduled else "mailto" if mail else "https", yes=yes)
        return command.show_next()


def suggest_receipt(session: AgentSession, bundle: Path) -> Iterator[LazyText]:
    """Yield how to write the next receipt beside an imported bundle, if receipts are allowed."""
    file = session.open_site().state_directory / JOURNAL_FILE
    if not os.access(file, os.W_OK):
        return  # no journal before the first bundle; and only root writes receipts
    with Journal.open(file, read_only=True) as journal:
        level = receipts.read_receipt_state(journal).level
    if level is not ReceiptLevel.NONE:
        words = N_(
            "To write a receipt beside the bundle, run: sudo ncen-updater receipt --to {path}"
        )
        yield LazyText(words, {"path": bundle.parent})


@dataclass(frozen=True)
class _ReceiptCommand:
    """Shows, writes and sends the receipts of one site at the agreed level."""

    session: AgentSession
    site: Site
    journal: Journal
    level: ReceiptLevel

    def prepare(self, level: ReceiptLevel | None = None) -> tuple[Receipt, str]:
        return receipts.prepare_receipt(self.site, self.journal, level or self.level)

    def ask(self, question: LazyText, level: ReceiptLevel | None = None, *, yes: bool) -> None:
        """Show the next receipt, and ask for a confirmation."""
        self.add_lines(*self.prepare(level))
        self.session.ask_confirmation(question, assume_yes=yes)

    def report(
        self, receipt: Receipt | None, destination: Path | str | None, **more: object
    ) -> ExitCode:
        shown = receipt and receipt.to_json()
        document = {"level": self.level, "receipt": shown, "destination": destination, **more}
        self.session.write_output(document)
        return ExitCode.OK

    def add_lines(self, receipt: Receipt, release: str) -> tuple[LazyText, ...]:
        lines = receipt.format_lines(release)
        for line in lines:
            self.session.add_line(LazyText("  {line}", {"line": line}))
        return lines

    def add_next(self, level: ReceiptLevel) -> tuple[Receipt, tuple[LazyText, ...], str]:
        """Show the next receipt at a level; return it, its sentences, and the text to sign.

        It is not signed: no valid receipt may exist that nobody agreed to.
        """
        next_receipt, release = self.prepare(level)
        statement = encode_statement(next_receipt, release).decode()
        words = N_("A receipt of the level '{level}' would say:")
        self.session.add_line(LazyText(words, {"level": level.value}))
        lines = self.add_lines(next_receipt, release)
        words = N_(
            "A receipt is this text in base64, signed. Day, number, digests and chain head are"
            " those of the time when it is written:"
        )
        self.session.add_line(LazyText(words))
        self.session.add_line(statement.rstrip())
        return next_receipt, lines, statement

    def describe_level(self) -> LazyText:
        """Say what is sent at the level in force, when and to where."""
        due, addresses = receipts.find_due_receipt(self.journal), receipts.list_addresses(self.site)
        to = next((one for one in addresses if due is None or one.startswith(f"{due[1]}:")), None)
        words, day = RECEIPTS_ARE_OFF, due and format_date(due[0].astimezone().date())
        if to is None and self.level is not ReceiptLevel.NONE:
            words = N_("Nothing is sent: the Secretariat has published no address for receipts.")
        elif due is None and self.level is not ReceiptLevel.NONE:
            words = N_("Nothing is sent until a person runs: sudo ncen-updater receipt --send")
        elif due is not None:
            words = N_("Next receipt: on {day} to {address}, or earlier after a change.")
        return LazyText(words, {"day": day, "address": to})

    def show_next(self) -> ExitCode:
        """Show the next receipt; if receipts are off, that of the lowest level."""
        self.session.add_line(self.describe_level())
        level = ReceiptLevel.VERSION if self.level is ReceiptLevel.NONE else self.level
        next_receipt, _, statement = self.add_next(level)
        if self.level is ReceiptLevel.NONE:
            words = N_("To allow this, run: sudo ncen-updater receipt --level version")
            self.session.add_line(LazyText(words))
        past_events = receipts.list_receipt_events(self.journal)
        if past_events:
            self.session.add_line(LazyText(N_("Allowed, written and sent before:")))
        language, zone = self.session.language, self.session.zone
        for event in past_events:
            line = format_event(event.at.isoformat(), event.kind, event.data, language, zone)
            self.session.add_line(f"  {line}")
        events = [{"at": event.at, "kind": event.kind, **event.data} for event in past_events]
        return self.report(next_receipt, None, statement=statement, events=events)

    def show_levels(self) -> ExitCode:
        """Show the next receipt at each level."""
        shown = []
        for level in list(ReceiptLevel)[1:]:
            _, lines, statement = self.add_next(level)
            shown.append({"level": level, "sentences": lines, "statement": statement})
        state = self.describe_level()
        self.session.write_output({"level": self.level, "state": state, "levels": shown})
        return ExitCode.OK

    def set_level(self, wanted: ReceiptLevel, *, yes: bool) -> None:
        """Set the level; for a higher level, show the receipt and ask for a confirmation."""
        if wanted.rank > self.level.rank:
            words = N_("Allow receipts that tell the Secretariat this?")
            self.ask(LazyText(words), wanted, yes=yes)
        receipts.set_receipt_level(self.journal, wanted, get_invoking_user())

    def write_file(self, directory: Path) -> tuple[SignedReceipt, Path]:
        given = self.site, self.journal, self.level, directory, get_invoking_user()
        try:
            return receipts.write_receipt(*given)
        except OSError as error:
            raise UpdaterError(RECEIPT_UNWRITABLE, path=directory, detail=error.strerror) from error

    def write(self, directory: Path | None, *, qr: bool) -> ExitCode:
        """Write the next receipt into a directory, show it as a QR code, or both."""
        size = shutil.get_terminal_size()
        is_small = size.columns < QR_SIZE[0] or size.lines < QR_SIZE[1]
        if qr and sys.stdout.isatty() and is_small:
            raise UpdaterError(RECEIPT_QR_TOO_LARGE, needed="{} x {}".format(*QR_SIZE))
        with tempfile.TemporaryDirectory() as unused:
            signed, path = self.write_file(directory or Path(unused))
        self.add_lines(signed.receipt, signed.release_digest)
        if directory is not None:
            self.session.add_line(LazyText(N_("Written: {path}"), {"path": path}))
        if qr:
            import segno

            code = io.StringIO()
            segno.make_qr(signed.content.decode()).terminal(code, border=2, compact=True)
            self.session.add_line(code.getvalue().rstrip("\n"))
        fingerprint = self.show_fingerprint(signed)
        destination = None if directory is None else path
        return self.report(signed.receipt, destination, fingerprint=fingerprint)

    def send(self, method: str | None, *, yes: bool) -> ExitCode:
        """Send the next receipt.

        Args:
            method: ``https`` or ``mailto``; None sends only a receipt that is due, by the method
                that a user used last.
            yes: Whether to skip the question.
        """
        actor = get_invoking_user()
        if scheduled := method is None:
            due = receipts.find_due_receipt(self.journal)
            if due is None or due[0] > self.journal.read_time():
                return self.report(None, None)
            method = due[1]
        self.prepare()  # refuses first if receipts are off
        addresses = receipts.list_addresses(self.site)
        address = next((one for one in addresses if one.startswith(f"{method}:")), None)
        if address is None:
            raise UpdaterError(RECEIPT_ADDRESS_UNKNOWN, method=method)
        if method == "mailto" and self.site.config.notify.mail is None:
            raise CommandUsageError(OPTION_NEEDED, option="--mail", other="[notify.mail]")
        if not scheduled:
            words = N_("Send this receipt to {address}?")
            self.ask(LazyText(words, {"address": address}), yes=yes)
        try:
            receipts.queue_receipt(self.site, self.journal, self.level, actor)
        except OSError as error:
            outgoing = self.site.state_directory / receipts.OUTGOING_DIRECTORY
            raise UpdaterError(RECEIPT_UNWRITABLE, path=outgoing, detail=error.strerror) from error
        config = self.session.config, self.site.config
        sent = receipts.send_outgoing(
            self.journal, self.level, lambda one: send_receipt(*config, address, one.content),
            method=str(method), actor=actor, scheduled=scheduled,
        )  # fmt: skip
        self.session.add_line(LazyText(N_("Sent to {address}"), {"address": address}))
        receipt, fingerprint = sent[-1].receipt, self.show_fingerprint(sent[-1])
        return self.report(receipt, address, fingerprint=fingerprint)

    def show_fingerprint(self, signed: SignedReceipt) -> str:
        """Show the key's fingerprint, also of a key that replaced another, and return it."""
        fingerprint = compute_fingerprint(signed.receipt.key)
        words = N_(
            "Read this fingerprint to the Secretariat by telephone, unless it is confirmed:"
            " {fingerprint}"
        )
        self.session.add_line(LazyText(words, {"fingerprint": encode_as_words(fingerprint)}))
        return fingerprint
