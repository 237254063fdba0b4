"""Records as journald takes them, over a real socket, and what never gets into them."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root  # type: ignore[attr-defined]

from ncen_updater.agent.cli.main import run
from ncen_updater.agent.config.raw_config import find_secrets
from ncen_updater.agent.model.change import StepName
from ncen_updater.agent.model.errors import JournalMissingError
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common import journald
from ncen_updater.common.journald import (
    JournaldHandler,
    SecretFilter,
    is_journal_stream,
    make_message_id,
)
from tests.agent.cli.site import CHANGE, TrialSite, make_site

SECRET = "hunter2-and-more"


@pytest.fixture
def site(tmp_path: Path) -> TrialSite:
    """A site that runs 3.2.4."""
    return make_site(tmp_path / "site")


def fields(datagram: bytes) -> dict[str, str]:
    """Read a datagram as journald does."""
    found = {}
    while datagram:
        line, _, rest = datagram.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if equals:
            datagram = rest
        else:
            (size,) = struct.unpack("<Q", rest[:8])
            value, datagram = rest[8 : 8 + size], rest[8 + size + 1 :]
        found[name.decode()] = value.decode()
    return found


class Journald:
    """The receiving end: a stand-in for journald's socket, and nothing more of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)

    def close(self) -> None:
        self._socket.close()

    def records(self) -> list[dict[str, str]]:
        found = []
        while True:
            try:
                found.append(fields(self._socket.recv(1_000_000)))
            except BlockingIOError:
                return found


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Journald]:
    made = Journald(tmp_path / "journal.sock")
    yield made
    made.close()


@pytest.fixture
def log(receiver: Journald) -> Iterator[logging.Logger]:
    logger = logging.getLogger("ncen_updater.trial")
    handler = JournaldHandler(str(receiver.path))
    handler.addFilter(SecretFilter([SECRET]))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    yield logger
    logger.setLevel(logging.NOTSET)
    logger.removeHandler(handler)
    handler.close()


@pytest.fixture
def root_log() -> Iterator[None]:
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    talkative = logging.getLogger(journald.NOISY_LOGGER)
    talked = talkative.level
    yield
    talkative.setLevel(talked)
    for handler in root.handlers[:]:
        root.removeHandler(handler)
        if isinstance(handler, JournaldHandler):
            handler.close()
    for handler in before:
        root.addHandler(handler)
    root.setLevel(level)


def test_record_has_stable_fields(log: logging.Logger, receiver: Journald) -> None:
    log.warning(
        "step failed", extra={"code": "NU-4150", "change": "abcdefgh", "step": StepName.MIGRATE}
    )
    (record,) = receiver.records()
    assert record["MESSAGE"] == "step failed"
    assert record["PRIORITY"] == "4"
    assert record["SYSLOG_IDENTIFIER"] == "ncen-updater"
    assert (record["NCEN_CODE"], record["NCEN_CHANGE"], record["NCEN_STEP"]) == (
        "NU-4150", "abcdefgh", "migrate",
    )  # fmt: skip
    assert record["MESSAGE_ID"] == make_message_id("NU-4150")


def test_operation_record_passes_the_worker_units(log: logging.Logger, receiver: Journald) -> None:
    log.setLevel(logging.DEBUG)
    log.info("approved 3.3.0 by user-a (1 of 2)")
    log.debug("looked")
    assert [record["PRIORITY"] for record in receiver.records()] == ["5", "7"]


def test_message_id_is_stable() -> None:
    # Written out: catalogues of sites name it.
    assert make_message_id("NU-6011") == "6d8b58cf7a055f7984af8779916b17de"


def test_lines_and_traces_cannot_forge_fields(log: logging.Logger, receiver: Journald) -> None:
    try:
        raise ValueError("x\nNCEN_CODE=NU-0001")
    except ValueError:
        log.exception("bad\nPRIORITY=0")
    (record,) = receiver.records()
    assert record["PRIORITY"] == "3"
    assert "NCEN_CODE" not in record
    assert "Traceback" in record["MESSAGE"]


def test_error_record_has_its_code(log: logging.Logger, receiver: Journald) -> None:
    log.warning("not now: %s", JournalMissingError(path="/x"))
    assert receiver.records()[0]["NCEN_CODE"] == JournalMissingError.message.code


@pytest.mark.parametrize(("level", "told"), [(logging.INFO, False), (logging.DEBUG, True)])
def test_unneeded_missing_signature_is_not_logged(
    root_log: None, capsys: pytest.CaptureFixture[str], level: int, told: bool
) -> None:
    """Of two keys one is enough here, as with roles that more may sign than have to."""
    signs, other = (CryptoSigner.generate_ed25519() for _ in range(2))
    document = Metadata(Root())
    for key in (signs.public_key, other.public_key):
        document.signed.add_key(key, Root.type)
    document.sign(signs)
    journald.install_logging(level, always=True, environment={})
    document.signed.verify_delegate(Root.type, document.signed_bytes, document.signatures)
    assert (other.public_key.keyid in capsys.readouterr().err) is told


def test_secrets_are_masked_everywhere(log: logging.Logger, receiver: Journald) -> None:
    log.info("at postgresql://u:%s@h/db", SECRET)
    try:
        raise OSError(SECRET)
    except OSError:
        log.exception("failed")
    text = repr(receiver.records())
    assert SECRET not in text
    assert text.count("***") >= 2


def test_unavailable_journald_is_no_failure(
    log: logging.Logger, receiver: Journald, capsys: pytest.CaptureFixture[str]
) -> None:
    assert isinstance(log.handlers[0], JournaldHandler)
    receiver.path.unlink()
    log.error("still said, without %s", SECRET)
    assert "still said, without ***" in capsys.readouterr().err


def test_only_the_stream_named_by_systemd_counts(tmp_path: Path) -> None:
    with (tmp_path / "err").open("w") as stream:
        seen = os.fstat(stream.fileno())
        assert is_journal_stream({"JOURNAL_STREAM": f"{seen.st_dev}:{seen.st_ino}"}, stream)
        assert not is_journal_stream({"JOURNAL_STREAM": f"{seen.st_dev}:{seen.st_ino + 1}"}, stream)
        assert not is_journal_stream({"JOURNAL_STREAM": "nonsense"}, stream)
        assert not is_journal_stream({}, stream)


@pytest.mark.usefixtures("root_log")
def test_command_is_logged_to_journald(
    site: TrialSite, receiver: Journald, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journald, "JOURNAL_SOCKET", str(receiver.path))
    monkeypatch.setattr(journald, "is_journal_stream", lambda *_: True)
    monkeypatch.setenv("JOURNAL_STREAM", "1:1")
    arguments = ["--config", str(site.config)]
    assert run([*arguments, "hold", "--reason", f"because {SECRET} of Amina"]) == 0
    assert run([*arguments, "resume", "nonsense"]) == 2
    records = receiver.records()
    (held,) = [record for record in records if record["MESSAGE"].startswith("held by ")]
    assert held["NCEN_EVENT"] == "1"
    assert "NU-1101" in [record.get("NCEN_CODE") for record in records]
    # What people wrote is in our journal, not in every log.
    assert "Amina" not in repr(records)


@pytest.mark.usefixtures("root_log")
def test_steps_are_logged_to_journald(site: TrialSite, receiver: Journald) -> None:
    handler = JournaldHandler(str(receiver.path))
    logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel(logging.INFO)
    site.open_change(StepName.MAINTENANCE_ON)
    # A cancelled message is not sent with the next one either.
    with Journal.open(site.journal) as journal:
        with contextlib.suppress(ValueError), journal.transaction():
            journal.append_event("never", CHANGE.id)
            raise ValueError("undo")
        journal.record_event("later", CHANGE.id)
    records = receiver.records()
    assert records.pop()["MESSAGE"] == "later (change abcdefgh)"
    assert [r["MESSAGE"] for r in records] == [
        "change-started upgrade from 3.2.4 to 3.3.0 (change abcdefgh)",
        "step-intended maintenance-on (change abcdefgh)",
        "step-done maintenance-on (change abcdefgh)",
    ]  # fmt: skip
    assert records[1]["NCEN_STEP"] == "maintenance-on"


def test_secrets_are_recognised() -> None:
    data = {
        "feed": {"urls": ["https://u:pass%20word@h/", "https://h/"], "proxy": "http://a:b@p:1"},
        "application": {"environment": {"DATABASE_URL": SECRET, "DEBUG": "1"}},
        "site": {"id": "ke-1-long-name"},
    }
    assert find_secrets(data) == {"pass%20word", "pass word", SECRET}


def test_service_logs_no_secret_of_its_configuration(site: TrialSite) -> None:
    text = site.config.read_text().replace(
        'health_url = "http://127.0.0.1:9"',
        f'health_url = "http://127.0.0.1:9"\nenvironment = {{ DATABASE_URL = "{SECRET}" }}',
    )
    text = text.replace("http://127.0.0.1:9/", f"http://user:{SECRET}@127.0.0.1:9/", 1)
    socket_path = site.root / "api.sock"
    site.config.write_text(text + f'[service]\nself_update = false\napi_socket = "{socket_path}"\n')
    said = []
    with subprocess.Popen(
        [sys.executable, "-m", "ncen_updater.agent.cli.main", "serve", "--verbose"],
        env=site.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        for line in process.stderr:
            said.append(line)
            if "ncen_updater.agent.service.loop wait" in line:  # the feed was asked, in vain
                break
        process.send_signal(signal.SIGTERM)
        said += process.stderr
    assert any("check" in line for line in said)
    assert SECRET not in "".join(said)
