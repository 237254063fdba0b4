"""Tests of the support bundle on a real SQLite site: its contents, and that no record leaks."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ncen_updater.agent.adapters.databases.base import RollbackKind
from ncen_updater.agent.cli.main import run
from ncen_updater.agent.engine.rehearsal.rehearsal_store import RehearsalState, RehearsalStore
from ncen_updater.agent.engine.rehearsal.report import (
    ReferenceMapResult,
    RehearsalCopyPlans,
    RehearsalReport,
    RehearsedHop,
)
from ncen_updater.agent.model.change import ChangeState, StepName
from ncen_updater.agent.policy.downtime_prediction import DowntimeRange
from ncen_updater.agent.reports.diagnostics.support_bundle.bundle import (
    SupportBundle,
    make_bundle,
    pack_bundle,
    write_archive,
)
from ncen_updater.agent.reports.diagnostics.support_bundle.contents import (
    PART_NAMES,
    mask_settings,
    mask_values,
)
from ncen_updater.agent.reports.diagnostics.support_bundle.leaks import split_words
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.messages import BUNDLE_UNWRITABLE, SUPPORT_BUNDLE_EXISTS, UNKNOWN_PART
from ncen_updater.common.progress import SilentProgress
from tests.agent.cli.site import CHANGE, TrialSite, make_site
from tests.support.errors import refused

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
PERSON, PASSPORT, PLACE = "Amina Wanjiru", "KX4471902", "Malindi"
LINE = "2026-01-01T00:00:00Z PRIORITY=3 NCEN_CODE=NU-6011 NCEN_EVENT=step-failed"
RECORD = {
    "__REALTIME_TIMESTAMP": "1767225600000000", "PRIORITY": "3", "NCEN_CODE": "NU-6011",
    "NCEN_EVENT": "step-failed",
}  # fmt: skip


def commands(log: str = "", units: str = "ActiveState=active\n", **fields: object) -> Any:
    """Answer for systemd, which does not run in a trial; one record has a message of others."""
    record = json.dumps({**RECORD, "MESSAGE": log, **fields})

    def answer(words: Sequence[str]) -> str:
        return units if words[0] == "systemctl" else f"{record}\n"

    return answer


@pytest.fixture
def site(tmp_path: Path) -> Iterator[TrialSite]:
    made = make_site(tmp_path / "site")
    (made.root / "db/live").rmdir()
    (made.root / "db/sets/base").mkdir(parents=True)
    (made.root / "db/live").symlink_to("sets/base")
    with closing(sqlite3.connect(made.root / "db/live/cases.sqlite")) as database:
        database.executescript(
            "CREATE TABLE person (id INTEGER PRIMARY KEY, name TEXT, passport TEXT, note TEXT);"
            "CREATE TABLE port (name TEXT PRIMARY KEY, state TEXT) WITHOUT ROWID;"
            "CREATE TABLE \"odd \"\"one\" (\"a \"\"b\" TEXT);"
            f"INSERT INTO port VALUES ('{PLACE}', 'finished');"
            "INSERT INTO person VALUES (2, 'Koné', '23059123456', NULL);"
            f"INSERT INTO person VALUES (1, '{PERSON}', '{PASSPORT}',"
            " '{\"seen\": [\"Otieno Odhiambo\"]}');"
            "INSERT INTO \"odd \"\"one\" VALUES ('Zawadi Mwangi');"
        )  # fmt: skip
        database.commit()
    yield made


def make(site: TrialSite, **more: Any) -> SupportBundle:
    return make_bundle(site.config, SilentProgress(), NOW, **{"run": commands(), **more})


def text(bundle: SupportBundle, name: str) -> str | None:
    return next(part.text for part in bundle.parts if part.name == name)


def reasons(bundle: SupportBundle) -> dict[str, str | None]:
    return {part.name: part.missing_reason for part in bundle.parts if part.text is None}


def test_healthy_site_is_bundled(site: TrialSite) -> None:
    site.open_change(StepName.MAINTENANCE_ON)
    with Journal.open(site.journal) as journal:
        journal.set_change_state(CHANGE.id, ChangeState.REVERTING, error_code="NU-4150")
        journal.set_change_state(CHANGE.id, ChangeState.REVERTED)
    bundle = make(site)
    assert tuple(part.name for part in bundle.parts) == PART_NAMES
    assert reasons(bundle) == {}
    assert (bundle.leaks, bundle.unread) == ((), {})
    (change,) = json.loads(text(bundle, "changes.json") or "")
    assert (change["state"], change["error_code"]) == ("reverted", "NU-4150")
    assert "step-done" in (text(bundle, "events.json") or "")
    packages = json.loads(text(bundle, "versions.json") or "")["packages"]
    assert packages["click"]
    assert LINE in (text(bundle, "log.txt") or "")


def plant(site: TrialSite, value: str) -> None:
    """Write a value into every free text: events, reasons, errors, reports."""
    with Journal.open(site.journal) as journal:
        journal.record_event("held", reason=value, by=value)
        journal.record_event("step-failed", code="NU-4150", error=f"Key (name)=({value}) exists")
        journal.record_event("job-queued", action="hold", data={"reason": value})
        journal.record_event("import-rejected", by=value, files=[value], code="NU-1")
        rehearsals = RehearsalStore(journal)
        rehearsals.record_start(
            "abcdefgh", "3.2.4", "3.3.0", RehearsalCopyPlans({value: {"x": value}})
        )
        hop = RehearsedHop(
            from_version="3.2.4",
            to_version="3.3.0",
            copy_s=1.0,
            migrate_s=1.0,
            rollback_s=1.0,
            rollback_path=RollbackKind.KEEPS_RECORDS,
            downtime=DowntimeRange(1.0, 1.5, 2.0),
            reference_maps=(ReferenceMapResult("cites", "cases", 1, ((value, 3),)),),
            checks={"x": (value, value)},
        )
        report = RehearsalReport(plan=value, backup_s=1.0, hops=(hop,))
        rehearsals.record_end(
            "abcdefgh", RehearsalState.PASSED, basis={"who": value}, result=report
        )
    journal.close()


@pytest.mark.parametrize("value", [PERSON, PASSPORT, PLACE, "Otieno Odhiambo", "Zawadi Mwangi"])
def test_texts_written_into_the_journal_are_omitted(site: TrialSite, value: str) -> None:
    plant(site, value)
    bundle = make(site)
    assert bundle.leaks == ()
    assert value not in repr(bundle.parts)
    assert reasons(bundle) == {}


@pytest.mark.parametrize(
    ("value", "column"),
    [
        (PERSON, 'cases: "person"."name"'),
        ("AMINA   wanjiru", 'cases: "person"."name"'),
        ("x=(amina_wanjiru)".replace("_", ", "), 'cases: "person"."name"'),
        ("amina_wanjiru", 'cases: "person"."name"'),
        ("Ami\\u006ea%20Wanjiru", 'cases: "person"."name"'),
        (PASSPORT.lower(), 'cases: "person"."passport"'),
        ("2305 9123456", 'cases: "person"."passport"'),
        ("KONE", 'cases: "person"."name"'),
        ("Kone\u0301", 'cases: "person"."name"'),
        (PLACE, 'cases: "port"."name"'),
        ("Otieno Odhiambo", 'cases: "person"."note"'),
        ("Zawadi Mwangi", 'cases: "odd ""one"."a ""b"'),
    ],
)
def test_record_value_is_detected(site: TrialSite, value: str, column: str) -> None:
    bundle = make(site, run=commands(units=f"... error: {value}; rolled back"))
    assert [(leak.part, leak.column) for leak in bundle.leaks] == [("units.txt", column)]
    assert make(site, run=commands(units=value), leave_out=["units.txt"]).leaks == ()


FRAME = (
    '  File "/opt/ncen-updater/lib/ncen_updater/agent/engine/change_runner.py", line 71, in _run'
)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"log": f"error: Key (name)=({PERSON}) exists, curl -u admin:geheim fe80::1"}, LINE),
        ({"NCEN_EVENT": f"by {PERSON}"}, LINE.removesuffix(" NCEN_EVENT=step-failed")),
        ({"NCEN_EVENT": [65, 66]}, LINE.removesuffix(" NCEN_EVENT=step-failed")),
        ({"NCEN_ACTOR": "amina"}, LINE),
        ({"UNIT": "ncen-updater.service", "JOB_RESULT": "failed"},
         f"{LINE} UNIT=ncen-updater.service JOB_RESULT=failed"),
        ({"log": f"Traceback\n{FRAME}\nValueError: {PERSON}"},
         f"{LINE} ncen_updater/agent/engine/change_runner.py:71:_run"),
        ({"NCEN_CODE": None, "NCEN_EVENT": "x y", "log": f"officer: {PERSON}"}, ""),
        ({"__REALTIME_TIMESTAMP": None}, ""),
    ],
)  # fmt: skip
def test_log_contains_only_names_and_codes(
    site: TrialSite, fields: dict[str, Any], told: str
) -> None:
    bundle = make(site, run=commands(**fields))
    assert text(bundle, "log.txt") == f"{told}\n"
    assert bundle.leaks == ()


def test_words_of_the_program_are_not_leaks(site: TrialSite) -> None:
    # The column port.state holds "finished", and so does every list of changes.
    assert make(site, run=commands(units="finished")).leaks == ()


def test_messages_keep_numbers_and_program_words() -> None:
    inner = LazyText("{path}: {reason}", {"path": "/srv/state", "reason": "Koné at fe80::1"})
    values = {
        "free": 12345678, "size": "1.5 GB", "version": "3.2.4", "phone": "+230 5912 3456",
        "host": "db.example", "address": "10.11.12.13", "inner": inner,
    }  # fmt: skip
    template = " ".join(f"{{{name}}}" for name in values)
    own = frozenset({"gb", "srv", "state"})
    assert str(mask_values(LazyText(template, values), own)) == (
        "12345678 1.5 GB 3.2.4 *** *** *** /srv/state: ***"
    )


def test_newest_rows_of_a_large_table_are_compared(site: TrialSite) -> None:
    with closing(sqlite3.connect(site.root / "db/live/cases.sqlite")) as database:
        rows = [(f"Somebody{n:05} Else", None) for n in range(5000)]
        database.executemany("INSERT INTO person (name, note) VALUES (?, ?)", rows)
        database.commit()
    assert len(make(site, run=commands(units="Somebody04999 Else")).leaks) == 1


@pytest.mark.parametrize("damage", ["database", "journal", "config", "all"])
def test_partly_broken_site_is_bundled(site: TrialSite, damage: str) -> None:
    if damage in ("database", "all"):
        (site.root / "db/live/cases.sqlite").write_bytes(b"x" * 10_000)
    if damage in ("journal", "all"):
        site.journal.write_bytes(b"x" * 10_000)
    if damage in ("config", "all"):
        site.config.write_text(site.config.read_text() + '[nonsense]\nx = 1\ntimeout_s = "S3cr"\n')

    def down(words: Sequence[str]) -> str:
        raise subprocess.CalledProcessError(1, list(words))

    bundle = make(site, run=down)
    missing = reasons(bundle)
    assert missing["log.txt"] == "CalledProcessError"
    assert text(bundle, "versions.json")
    assert text(bundle, "findings.json")
    if damage == "journal":
        assert "NU-6002" in (missing["events.json"] or "")
    if damage == "config":
        assert "NU-1005" in (missing["site.json"] or "")
        assert "NU-1005" in (text(bundle, "findings.json") or "")
        shown = text(bundle, "configuration.json") or ""
        assert "nonsense" in shown and "S3cr" not in shown
    if damage != "journal":
        assert bundle.unread


def test_secrets_and_addresses_are_masked(site: TrialSite) -> None:
    secret = "hunter2-and-more"
    config = site.config.read_text().replace(
        "http://127.0.0.1:9/", f"https://user:{secret}@feed.example.org/", 1
    )
    config = config.replace(
        'health_url = "http://127.0.0.1:9"',
        f'health_url = "http://10.1.2.3:9"\nenvironment = {{ DATABASE_URL = "{secret}-x" }}'
        f'\nhealth_headers = {{ id = "geheim-host" }}'
        f'\nversion_command = ["/bin/app", "--key", "geheim-key"]',
    )
    config += (
        '[notify.mail]\nhost = "mail.example.org"\nsecurity = "none"\nsender = "a@example.org"\n'
        'to = ["boss@example.org"]\n'
    )
    site.config.write_text(config)
    line = f"asked https://feed.example.org/x as {secret} from 10.1.2.3 for a@example.org"
    found = repr(make(site, run=commands(line)).parts)
    for hidden in (secret, "geheim", "example.org", "10.1.2.3"):
        assert hidden not in found
    assert "DATABASE_URL" in found


def test_settings_are_masked() -> None:
    written = {
        "site": {"id": "ke-1"},
        "feed": {"urls": ["http://h/", "http://user:secret@example.org/"], "n": 3, "on": True},
        "databases": {"names": {"cases": "ncen_cases"}, "pasword": "geheim", "host": "fe80::1"},
        "application": {
            "start": ["/bin/app", "--key", "open"],
            "health_headers": {"id": "open"},
            "timeout_s": "S3cr",
        },
        "service": {"windows": [{"days": ["sat"], "start": "22:00", "end": "04:00"}]},
    }  # fmt: skip
    own = frozenset(
        split_words("ke 1 http user secret example org ncen cases bin app key open sat")
    )
    assert mask_settings(written, own) == {
        "site": {"id": "ke-1"},
        "feed": {"urls": ["***", "***"], "n": 3, "on": True},
        "databases": {"names": {"cases": "ncen_cases"}, "pasword": "***", "host": "***"},
        "application": {
            "start": ["/bin/app", "***", "***"],
            "health_headers": {"id": "***"},
            "timeout_s": "***",
        },
        "service": written["service"],
    }


def test_bundle_file_is_private_and_replaces_nothing(site: TrialSite) -> None:
    bundle = make(site)
    path = site.root / "x.tar.gz"
    size = write_archive(pack_bundle(bundle, NOW), path)
    assert path.stat().st_size == size
    assert path.stat().st_mode & 0o777 == 0o600
    with tarfile.open(path) as archive:
        names = archive.getnames()
        entry = archive.extractfile("support-bundle/contents.json")
        assert entry is not None
        contents = json.loads(entry.read())
    assert names == [f"support-bundle/{name}" for name in ("contents.json", *PART_NAMES)]
    assert set(contents["parts"]) == set(PART_NAMES)
    with refused(SUPPORT_BUNDLE_EXISTS):
        write_archive(pack_bundle(bundle, NOW), path)
    with refused(BUNDLE_UNWRITABLE):
        write_archive(pack_bundle(bundle, NOW), site.root / "nowhere/x.tar.gz")


def test_unknown_part_is_rejected(site: TrialSite) -> None:
    with refused(UNKNOWN_PART):
        make(site, leave_out=["everything"])


# ---- the command ---------------------------------------------------------------------------------


def command(site: TrialSite, *words: str) -> int:
    return run(["--config", str(site.config), "--quiet", "support-bundle", *words])


def test_command_shows_confirms_and_writes(
    site: TrialSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bundle.tar.gz"
    assert command(site, "--dry-run", "--output", str(path), "--show", "disks.json") == 0
    said = capsys.readouterr().out
    assert "  changes.json: " in said
    assert '"free_bytes"' in said
    assert command(site, "--output", str(path)) == 2  # no prompt is possible
    assert not path.exists()
    assert command(site, "--output", str(path), "--yes", "--json") == 0
    document = json.loads(capsys.readouterr().out.split("\n", 0)[0].partition("{")[2].join("{ "))
    assert document["path"] == str(path)
    assert path.exists()


def test_command_refuses_a_bundle_with_a_record(
    site: TrialSite, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "systemctl").write_text(f"#!/bin/sh\necho 'Id={PERSON}'\n")
    (tools / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    path = tmp_path / "bundle.tar.gz"
    assert command(site, "--output", str(path), "--yes") == 3
    said = capsys.readouterr()
    assert "NU-9651" in said.err
    assert "units.txt" in said.err
    assert PERSON not in said.out + said.err
    assert not path.exists()
    assert command(site, "--output", str(path), "--yes", "--leave-out", "units.txt") == 0
    assert path.exists()
