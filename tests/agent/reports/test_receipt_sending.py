"""Tests of sending receipts: by command, by the service, and obstacles."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import segno

from demo.site import DemoSite
from ncen_updater.agent.config.agent_config import FeedSettings
from ncen_updater.agent.config.service import MailSettings
from ncen_updater.agent.model.change import StepName, StepState
from ncen_updater.agent.model.change_facts import ChangeFacts
from ncen_updater.agent.model.event_names import JOURNAL_FILE, RECEIPT_SENT
from ncen_updater.agent.reports.receipt import (
    OUTGOING_DIRECTORY,
    find_due_receipt,
    set_receipt_level,
)
from ncen_updater.agent.service.notifications import send_worker
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import SiteHistory
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.messages import RECEIPT_INVALID, RECEIPT_NOT_DELIVERED
from ncen_updater.feed.trust_state import TrustStateStore
from ncen_updater.formats.receipt import RECEIPT_ADDRESSES_FIELD, ReceiptLevel, read_receipt
from ncen_updater.publisher.cli.main import run as publisher_run
from tests.agent.cli.site import CHANGE
from tests.agent.reports.test_receipt import Run, ask, demo, feed, run
from tests.agent.service.notifications.receivers import Hook, hook_server, mail_server
from tests.packaging.test_units import PACKAGING, hidden_by, program, settings
from tests.publisher.fleet.sites import Reporter
from tests.support.activation import ACTIVATOR, activated
from tests.support.sites import TrialFeed, site_in_process
from tests.support.tls import Authority

__all__ = ["demo", "feed", "run"]

DAY = timedelta(days=1)


@dataclass
class Office:
    """The Secretariat's web server, and how a site reaches it."""

    hook: Hook
    authority: Authority

    @property
    def address(self) -> str:
        return f"https://127.0.0.1:{self.hook.port}/spool/"

    @property
    def settings(self) -> FeedSettings:
        return FeedSettings(urls=("http://127.0.0.1:9/",), ca_file=self.authority.file)


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    authority = Authority(tmp_path / "tls")
    with hook_server(authority.server_context(authority.certify("office"))) as hook:
        yield Office(hook, authority)


@pytest.fixture
def trusting(demo: DemoSite, office: Office) -> Iterator[None]:
    """The site trusts the authority of the office."""
    text = demo.config_path.read_text("utf-8")
    added = f'[feed]\nca_file = "{office.authority.file}"\n'
    demo.config_path.write_text(text.replace("[feed]\n", added), "utf-8")
    yield
    demo.config_path.write_text(text, "utf-8")


def name_addresses(demo: DemoSite, *addresses: str) -> None:
    """Let the root that this site verified name addresses."""

    def change(before: Any) -> Any:
        root = json.loads(before.root)
        root["signed"][RECEIPT_ADDRESSES_FIELD] = list(addresses)
        return replace(before, root=json.dumps(root))

    TrustStateStore(demo.state).update(change)


def fail(run: Run, *words: str) -> str:
    code: str = json.loads(run("--json", *words).stdout)["error"]["code"]
    return code


@pytest.mark.usefixtures("trusting")
def test_first_receipt_is_sent_by_command_and_later_ones_by_the_service(
    demo: DemoSite, run: Run, office: Office
) -> None:
    hook, outgoing = office.hook, demo.state / OUTGOING_DIRECTORY

    def state() -> str:
        """What a director reads first."""
        found: str = ask(run, "receipt", "--all-levels")["state"]
        assert found in run("receipt").stdout
        return found

    assert state() == "Receipts are off: this site sends nothing."
    assert fail(run, "receipt", "--send", "--yes") == "NU-9803"
    ask(run, "receipt", "--level", "outcome", "--yes")
    assert fail(run, "receipt", "--send", "--yes") == "NU-9815"
    assert run("check").returncode == 0
    assert state().startswith("Nothing is sent: the Secretariat has published no address")
    name_addresses(demo, "mailto:receipts@example.org", office.address)
    assert state() == "Nothing is sent until a person runs: sudo ncen-updater receipt --send"
    assert fail(run, "receipt", "--mail", "--yes") == "NU-1101"  # no mail server, no number
    # Without a terminal there is no consent; and the service never sends the first.
    assert run("receipt", "--send").returncode != 0
    assert ask(run, "receipt", "--scheduled")["receipt"] is None
    assert hook.posts == []

    outgoing.touch()  # in the way of the directory
    assert fail(run, "receipt", "--send", "--yes") == "NU-9804"
    outgoing.unlink()
    hook.status = 503
    assert fail(run, "receipt", "--send", "--yes") == "NU-9816"
    (waiting,) = outgoing.iterdir()
    content = waiting.read_bytes()
    hook.status = 201
    sent = ask(run, "receipt", "--send", "--yes")
    assert (sent["receipt"]["number"], sent["destination"]) == (1, office.address)
    assert [body for _, body in hook.posts] == [content, content]
    assert hook.paths[-1] == f"PUT /spool/{hashlib.sha256(content).hexdigest()}"
    assert [*outgoing.glob("*.json")] == []
    assert [path.read_bytes() for path in (outgoing / "sent").iterdir()] == [content]
    # Besides the receipt nothing of the site is sent.
    headers, _ = hook.posts[-1]
    assert set(headers) == {
        "Accept-Encoding", "Connection", "Content-Length", "Host", "User-Agent",
    }  # fmt: skip
    assert headers["User-Agent"] == "ncen-updater"

    assert ask(run, "receipt", "--scheduled")["receipt"] is None  # nothing new, not a month
    with Journal.open(demo.state / JOURNAL_FILE) as journal:
        due = find_due_receipt(journal)
    assert due is not None and due[1] == "https"
    assert f" to {office.address}, or earlier after a change." in state()
    assert 30 * DAY <= due[0] - datetime.now(UTC) + timedelta(minutes=5) <= 31 * DAY

    # A waiting receipt above the agreed level is removed without notice.
    hook.status, told = 500, len(hook.posts)
    assert fail(run, "receipt", "--send", "--yes") == "NU-9816"
    assert len([*outgoing.glob("*.json")]) == 1
    ask(run, "receipt", "--level", "none")
    assert [*outgoing.glob("*.json")] == []
    assert ask(run, "receipt", "--scheduled")["receipt"] is None
    assert len(hook.posts) == told + 1


def test_waiting_receipt_of_another_version_of_the_program_is_removed(
    demo: DemoSite, run: Run
) -> None:
    ask(run, "receipt", "--level", "version", "--yes")
    outgoing = demo.state / OUTGOING_DIRECTORY
    outgoing.mkdir(exist_ok=True)
    for number, content in enumerate((b'{"a field": "of a newer version"}', b"x" * 5000)):
        (outgoing / f"receipt-ke-1-{number}.json").write_bytes(content)
    assert ask(run, "receipt", "--level", "none")["level"] == "none"
    assert [*outgoing.glob("*.json")] == []


@dataclass
class Clock:
    now: datetime = field(default_factory=lambda: datetime(2026, 11, 1, 12, tzinfo=UTC))

    def __call__(self) -> datetime:
        return self.now


def record_sent(journal: Journal, level: ReceiptLevel, *, scheduled: bool = False) -> None:
    journal.record_event(
        RECEIPT_SENT, number=1, digest="0" * 16, method="https", level=level.value, outcome_id="",
        by="amina", scheduled=scheduled,
    )  # fmt: skip


def test_due_receipt_is_found(tmp_path: Path) -> None:
    clock = Clock()
    with Journal.create(tmp_path / JOURNAL_FILE, now=clock) as journal:
        assert find_due_receipt(journal) is None
        set_receipt_level(journal, ReceiptLevel.OUTCOME, "amina")
        assert find_due_receipt(journal) is None  # no person sent one
        record_sent(journal, ReceiptLevel.OUTCOME)
        due = find_due_receipt(journal)
        assert due is not None
        assert 30 * DAY <= due[0] - clock.now < 31 * DAY
        # Another start, another hour: the time stays.
        clock.now += 3 * DAY
        assert find_due_receipt(journal) == due
        record_sent(journal, ReceiptLevel.OUTCOME, scheduled=True)
        later = find_due_receipt(journal)
        assert later is not None and later[0] >= clock.now + 30 * DAY

        # A finished change is reported within a day, at a random hour.
        clock.now += DAY
        journal.begin_change(CHANGE)
        assert find_due_receipt(journal) == later
        journal.set_change_state(CHANGE.id, type(CHANGE.state)("reverting"))
        journal.set_change_state(CHANGE.id, type(CHANGE.state)("reverted"))
        soon = find_due_receipt(journal)
        assert soon is not None
        assert timedelta() <= soon[0] - clock.now < DAY

        set_receipt_level(journal, ReceiptLevel.FIGURES, "amina")
        assert find_due_receipt(journal) is None  # raising asks for a person again
        set_receipt_level(journal, ReceiptLevel.VERSION, "amina")
        assert find_due_receipt(journal) is not None
        set_receipt_level(journal, ReceiptLevel.NONE, "amina")
        assert find_due_receipt(journal) is None
        # Who allows it again is asked again, whatever was sent before.
        set_receipt_level(journal, ReceiptLevel.VERSION, "amina")
        assert find_due_receipt(journal) is None
        record_sent(journal, ReceiptLevel.VERSION)
        assert find_due_receipt(journal) is not None


@pytest.mark.parametrize(
    ("level", "blamed", "most"),
    [
        (ReceiptLevel.OUTCOME, True, timedelta(minutes=15)),
        (ReceiptLevel.FIGURES, True, timedelta(minutes=15)),
        (ReceiptLevel.VERSION, True, DAY),  # it says nothing of the failure
        (ReceiptLevel.OUTCOME, False, DAY),
    ],
)
def test_failure_by_the_release_is_reported_soon(
    tmp_path: Path, level: ReceiptLevel, blamed: bool, most: timedelta
) -> None:
    clock, delays = Clock(), []
    for number in range(20):  # the delay depends on the audit log
        with Journal.create(tmp_path / f"{number}.sqlite", now=clock) as journal:
            set_receipt_level(journal, level, f"amina {number}")
            record_sent(journal, level)
            clock.now += DAY
            journal.begin_change(CHANGE)
            journal.commit_change(CHANGE.id)
            journal.record_step(CHANGE.id, StepName.MAINTENANCE_OFF, StepState.DONE)
            clock.now += 2 * DAY  # the soak period
            journal.store_facts(CHANGE.id, ChangeFacts(soak_error=LazyText("status 500")))
            if blamed:
                SiteHistory(journal).mark_bad("ncen", "3.3.0", "NU-6009", CHANGE.id)
            began = clock.now if blamed else CHANGE.created_at
            due = find_due_receipt(journal)
            assert due is not None
            delays.append(due[0] - began)
            assert find_due_receipt(journal) == due
    assert timedelta() <= min(delays) and max(delays) < most
    assert max(delays) - min(delays) > most / 2
    assert len({*delays}) == 20


@pytest.mark.parametrize("status", [301, 302, 307, 308, 401, 404, 413, 500, 503])
def test_redirection_is_not_followed_and_refusal_is_reported(office: Office, status: int) -> None:
    office.hook.status = status
    with pytest.raises(UpdaterError) as refused:
        send_worker.put_receipt(Reporter("ke-1", "KE").write(), office.address, office.settings)
    assert refused.value.message is RECEIPT_NOT_DELIVERED
    assert len(office.hook.posts) == 1


@pytest.mark.parametrize("address", ["https://127.0.0.1:99999", "https://a..example.org"])
def test_address_that_cannot_be_used_is_reported(office: Office, address: str) -> None:
    with pytest.raises(UpdaterError) as refused:
        send_worker.put_receipt(Reporter("ke-1", "KE").write(), address, office.settings)
    assert refused.value.message is RECEIPT_NOT_DELIVERED


def test_silent_server_is_abandoned(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    office.hook.silent = True
    monkeypatch.setattr(send_worker, "RECEIPT_TIMEOUT_S", 0.2)
    with pytest.raises(UpdaterError) as refused:
        send_worker.put_receipt(Reporter("ke-1", "KE").write(), office.address, office.settings)
    assert refused.value.message is RECEIPT_NOT_DELIVERED


def put_into_namespace(unit: str, *words: str) -> list[str]:
    """Return a command that runs with what a unit hides covered, /run read-only, as its root."""
    path = PACKAGING / f"systemd/{unit}.service"
    assert settings(path, "User") == ["root"]
    # Only systemd itself filters these: they are read, and not tried.
    assert {"AF_UNIX", "AF_INET"} <= {*settings(path, "RestrictAddressFamilies")[0].split()}
    kept = "+" + ",+".join(
        name.removeprefix("CAP_").lower()
        for name in " ".join(settings(path, "CapabilityBoundingSet")).split()
    )
    covers = "".join(
        f"mount --bind $d/{'dir' if Path(place).is_dir() else 'file'} {place} && "
        for place in sorted(hidden_by(path))
        if Path(place).exists()
    )
    script = "d=/mnt && mount -t tmpfs none $d && mkdir $d/dir && : > $d/file && " + covers
    script += 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"'
    rights = [program("setpriv"), f"--bounding-set=-all{',' + kept if kept != '+' else ''}"]
    return [program("unshare"), "-m", "sh", "-c", script, "sh", *words[:1], *rights, *words[1:]]


@pytest.mark.skipif(os.geteuid() != 0 or ACTIVATOR is None, reason="root, with systemd's activator")
@pytest.mark.usefixtures("trusting")
def test_apply_and_send_units_deliver_a_receipt(
    demo: DemoSite, office: Office, tmp_path: Path
) -> None:
    """Work orders `receipt --scheduled`, and has no network; what sends has no state."""
    run_directory, config = tmp_path / "run", tmp_path / "agent.toml"
    run_directory.mkdir()
    path = run_directory / "send.sock"
    table = f'[service]\nrunner = "systemd"\nsend_socket = "{path}"\n'
    config.write_text(demo.config_path.read_text("utf-8") + table, "utf-8")
    module = "ncen_updater.agent.service.notifications.send_worker"
    sender = put_into_namespace(
        "ncen-updater-send@", str(run_directory), sys.executable, "-I", "-m", module, str(config)
    )
    signed = Reporter("ke-1", "KE").write()
    work = put_into_namespace(
        "ncen-updater-apply@", str(run_directory), sys.executable, "-c",
        "import sys; from pathlib import Path\n"
        "from ncen_updater.agent.config.loader import load_config\n"
        "from ncen_updater.agent.service.notifications.notifier import send_receipt\n"
        "config = Path(sys.argv[1])\n"
        "send_receipt(config, load_config(config), sys.argv[2], sys.argv[3].encode())\n",
        str(config), office.address, signed.content.decode(),
    )  # fmt: skip
    with activated(path, sender, tmp_path / "unit.log"):
        done = subprocess.run(work, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + (tmp_path / "unit.log").read_text()
    assert [body for _, body in office.hook.posts] == [signed.content]


def test_sender_accepts_only_a_receipt(demo: DemoSite) -> None:
    request = {"channel": "receipt", "address": "https://127.0.0.1:9/", "content": '{"case": 1}'}
    with pytest.raises(UpdaterError) as refused:
        send_worker.deliver_message(demo.config_path, request)
    assert refused.value.message is RECEIPT_INVALID
    signed = Reporter("ke-1", "KE").write()
    for address in ("mailto:receipts@example.org", "http://127.0.0.1:9/", "file:///etc/passwd"):
        request |= {"content": signed.content.decode(), "address": address}
        with pytest.raises(UpdaterError) as refused:
            send_worker.deliver_message(demo.config_path, request)
        assert refused.value.message is RECEIPT_NOT_DELIVERED


def test_mail_contains_only_the_receipt() -> None:
    signed = Reporter("ke-1", "KE").write()
    with mail_server() as box:
        settings = MailSettings(
            host="127.0.0.1", port=box.port, security="none", sender="ncen@customs.example",
            to=("it@customs.example",),
        )  # fmt: skip
        mail = send_worker.build_receipt_email(
            signed, "receipts@example.org", settings, datetime(2026, 11, 30, 21, 7, tzinfo=UTC)
        )
        send_worker.send_mail(mail, settings, {})
    (taken,) = box.mails
    (part,) = taken.iter_attachments()
    assert read_receipt(part.get_content()).digest == signed.digest
    assert taken["To"] == "receipts@example.org"
    assert "21:07" not in taken.as_string()
    body = taken.get_body()
    assert body is not None and body.get_content().strip() == ""


def test_qr_code_encodes_the_receipt(run: Run, tmp_path: Path) -> None:
    ask(run, "receipt", "--level", "figures", "--yes")
    shown = run("receipt", "--qr", "--to", str(tmp_path))
    assert shown.returncode == 0, shown.stderr
    lines = [line for line in shown.stdout.splitlines() if line and set(line) <= set("█▀▄ ")]
    (written,) = tmp_path.iterdir()
    picture = io.StringIO()
    segno.make_qr(written.read_text()).terminal(picture, border=2, compact=True)
    assert lines == picture.getvalue().splitlines()
    # Of the largest that a site can write, as the documents say.
    assert segno.make_qr("x" * 1300).symbol_size(border=2) == (125, 125)
    # Without a directory nothing is left behind but its number.
    number = ask(run, "receipt")["receipt"]["number"]
    assert ask(run, "receipt", "--qr")["destination"] is None
    assert ask(run, "receipt")["receipt"]["number"] == number + 1


@pytest.fixture
def bundle(demo: DemoSite, feed: TrialFeed, tmp_path: Path) -> Path:
    """A bundle for the site, alone on a stick."""
    (tmp_path / "stick").mkdir()
    bundle = tmp_path / "stick/release.ncen"
    code = publisher_run([
        "export", str(feed.directory), "--for-site", f"MU/{site_in_process(demo).config.site.id}",
        "--from", "3.2.4", "--output", str(bundle),
    ])  # fmt: skip
    assert code == 0
    return bundle


def test_import_explains_how_to_return_a_receipt(run: Run, bundle: Path) -> None:
    command, given = f"sudo ncen-updater receipt --to {bundle.parent}", ("import", str(bundle))
    ask(run, "receipt", "--level", "none")
    assert command not in run(*given).stdout
    ask(run, "receipt", "--level", "version", "--yes")
    assert command not in run(*given, "--dry-run").stdout
    assert command in run(*given).stdout
