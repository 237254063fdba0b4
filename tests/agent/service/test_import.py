"""Tests of import by the service for users without root: real site, bundle and job."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from demo.site import DemoSite, SiteOptions
from ncen_updater.agent.adapters.rights import find_group_id
from ncen_updater.agent.cli.service_client import ServiceSiteClient
from ncen_updater.agent.cli.session import AgentSession
from ncen_updater.agent.model.change import Actor
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.service.api_client import SiteServiceClient
from ncen_updater.agent.storage import inbox as trays
from ncen_updater.agent.storage.journal.jobs import JobKind, JobQueue
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import LazyText
from ncen_updater.common.landlock import get_abi_version
from ncen_updater.common.progress import Amount, ProgressListener, SilentProgress
from ncen_updater.common.workers import Worker, call_worker
from tests.agent.service.api.conftest import OPERATOR, READER, uid_of
from tests.support.forks import run_publisher
from tests.support.service_process import Served, served
from tests.support.sites import TrialFeed, connect

ROOT = os.geteuid() == 0
ME = pwd.getpwuid(os.geteuid()).pw_name
needs_people = pytest.mark.skipif(not ROOT, reason="only root can be other people")
RIGHTS = {"viewer_group": READER, "operator_group": OPERATOR} if ROOT else {}


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A directory that other users may enter, unlike those of pytest."""
    directory = Path(tempfile.mkdtemp(prefix="nu-import-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def feed(place: Path) -> TrialFeed:
    made = TrialFeed(place)
    made.publish(["3.2.4", "3.3.0"])
    return made


@pytest.fixture(scope="module")
def bundle(place: Path, feed: TrialFeed) -> Path:
    """A bundle on a world-readable medium."""
    output = place / "mu.ncen"
    done = run_publisher(
        "export", str(feed.directory), "--for-site", "MU/mu-national", "--from", "3.2.4",
        "--output", str(output),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    output.chmod(0o644)
    return output


@pytest.fixture
def service(place: Path, feed: TrialFeed) -> Iterator[Served]:
    """A site with an import directory, whose service does nothing automatically."""
    directory = Path(tempfile.mkdtemp(dir=place))
    directory.chmod(0o755)
    settings: dict[str, dict[str, Any]] = {
        "service": {"mode": "notify", "timezone": "UTC", **RIGHTS}
    }
    options = SiteOptions(cases=20, icomm=False, settings=settings)
    with DemoSite(directory / "site", None, options) as site:
        site.config_path.chmod(0o644)  # what an installation lets the group read
        connect(site, feed)
        site.state.chmod(0o751)
        inbox = site.state / "inbox"
        inbox.mkdir()
        if ROOT:
            os.chown(inbox, 0, find_group_id(OPERATOR) or 0)
        inbox.chmod(0o1770)
        with served(site.config_path, directory / "site") as process:
            process.demo = site
            yield process


def lies(service: Served) -> list[str]:
    return sorted(path.name for path in (service.demo.state / "inbox").iterdir())


def import_events(service: Served) -> list[tuple[str, object]]:
    """Import events of the journal: each kind, and its actor."""
    with Journal.open(service.demo.state / JOURNAL_FILE, read_only=True) as journal:
        return [
            (e.kind, e.data["by"]) for e in journal.list_events() if e.kind.startswith("import")
        ]


def lay(service: Served, bundle: Path, user: str = "") -> str:
    copied = Path(shutil.copy(bundle, service.demo.state / "inbox"))
    if user:
        os.chown(copied, uid_of(user), -1)
    return copied.name


def ordered(service: Served, name: str, **more: object) -> Any:
    """Order an import, and wait for what it comes to."""
    form = {"kind": "import", "file": name, **more}
    given = service.client.call("POST", "/v1/jobs", form)
    for event in service.client.stream(given["event"]):
        if event.kind == "job-ended" and event.data["data"]["job"] == given["id"]:
            break
    return service.client.get(f"/v1/jobs/{given['id']}")["result"]


def timeless(document: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key != "imported_at"}


def test_import_by_service_and_by_command_agree(service: Served, bundle: Path) -> None:
    """Stored, only verified, and refused bundles."""
    name, path = lay(service, bundle), str(bundle)
    for words, more in ((("--dry-run",), {"dry_run": True}), ((), {})):
        alone = service.run("--local", "--json", "--text", "--quiet", "import", path, *words)
        there = ordered(service, name, **more)
        assert there["exit_code"] == alone.returncode == 0, (alone.stdout, there)
        assert timeless(there["document"]) == timeless(json.loads(alone.stdout))
    (service.demo.state / "inbox" / name).write_bytes(b"no bundle")
    (service.demo.root / name).write_bytes(b"no bundle")
    bad = str(service.demo.root / name)
    alone = service.run("--local", "--json", "--text", "--quiet", "import", bad)
    there = ordered(service, name)
    error = json.loads(alone.stdout)["error"]
    assert there["exit_code"] == alone.returncode == 6
    assert there["document"]["error"]["code"] == error["code"]
    kinds = [kind for kind, _ in import_events(service)]
    assert kinds == ["import-started", "imported"] * 2 + ["import-started", "import-rejected"] * 2
    history = service.client.get("/v1/history")["imports"]
    assert [one["kind"] for one in history] == ["import-rejected"] * 2 + ["imported"] * 2
    assert lies(service) == [name], "what lay there before stays there"


@needs_people
def test_unprivileged_user_imports_from_any_path(service: Served, bundle: Path) -> None:
    """What they cannot reach themselves is done for them; the import directory stays empty."""
    groups = (READER, OPERATOR)
    dry = service.run("import", str(bundle), "--dry-run", "--json", user=OPERATOR, groups=groups)
    assert json.loads(dry.stdout)["imported"] is False, dry.stderr
    done = service.run("import", str(bundle), "--lang", "fr", user=OPERATOR, groups=groups)
    assert done.returncode == 0, done.stderr
    assert "3.3.0" in done.stdout and "Importé" in done.stdout
    assert lies(service) == []
    assert import_events(service) == [("import-started", OPERATOR), ("imported", OPERATOR)]
    half = bundle.with_name("half.ncen")
    half.write_bytes(bundle.read_bytes()[:20_000])
    half.chmod(0o644)
    cut = service.run("import", str(half), "--json", user=OPERATOR, groups=groups)
    assert json.loads(cut.stdout)["error"]["code"] == "NU-2303", cut.stdout
    assert lies(service) == []
    nobody = service.run("import", str(bundle), "--json", user=READER, groups=(READER,))
    assert json.loads(nobody.stdout)["error"]["code"] == "NU-9314", nobody.stdout
    listed = service.client.get("/v1/jobs")["jobs"]
    assert {order["kind"] for order in listed} == {"import"}


class Typed:
    """The command of one person, as the client of the service knows it."""

    language = "en"

    def __init__(self, progress: ProgressListener) -> None:
        self._progress = progress

    @contextmanager
    def make_progress(self) -> Iterator[ProgressListener]:
        yield self._progress


class Cut(SilentProgress):
    """Says nothing, and ends the process once all bytes were copied but these."""

    def __init__(self, left: int) -> None:
        self._left = left

    def report(self, text: LazyText, amount: Amount | None = None) -> None:
        if amount and amount.total and amount.done >= amount.total - self._left:
            os.kill(os.getpid(), signal.SIGKILL)


class KilledAtTheOrder(SiteServiceClient):
    """Ends the process before the order is given, or as soon as it was."""

    def __init__(self, path: Path, *, given: bool) -> None:
        super().__init__(path, "en")
        self._given = given

    def call(
        self, method: str, path: str, body: Mapping[str, object] | None = None
    ) -> dict[str, Any]:
        if method == "POST" and not self._given:
            os.kill(os.getpid(), signal.SIGKILL)
        answer = super().call(method, path, body)
        if method == "POST":
            os.kill(os.getpid(), signal.SIGKILL)
        return answer


def cut_off(service: Served, bundle: Path, instant: str) -> None:
    """Type 'import' as a person who may order; it is killed at that instant."""
    child = os.fork()
    if child == 0:
        try:
            if ROOT:
                entry = pwd.getpwnam(OPERATOR)
                os.setgroups([find_group_id(READER) or 0, find_group_id(OPERATOR) or 0])
                os.setgid(entry.pw_gid)
                os.setuid(entry.pw_uid)
            client = KilledAtTheOrder(service.client.path, given=instant == "after it")
            trays.COPY_CHUNK_BYTES = 4096
            progress = Cut(10_000) if instant == "while it is copied" else SilentProgress()
            typed = cast("AgentSession", Typed(progress))
            ServiceSiteClient(typed, client).import_bundle(bundle, dry_run=False)
        except BaseException:  # noqa: BLE001 - it must not go on as the trial itself
            traceback.print_exc()
        finally:
            os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status), "it came to its end, or failed by itself"
    assert os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.parametrize("instant", ["while it is copied", "before the order", "after it"])
def test_killed_import_leaves_a_file_its_owner_can_continue_with(
    service: Served, bundle: Path, instant: str
) -> None:
    """A copy in the import directory that the order does not name is seen, and no more."""
    cut_off(service, bundle, instant)
    seen = service.client.get("/v1/inbox")["files"]
    assert {file["owner"] for file in seen} == {OPERATOR if ROOT else ME}
    assert [file["name"] for file in seen] == lies(service) == [bundle.name]
    whole = seen[0]["size_bytes"] == bundle.stat().st_size
    assert whole is (instant != "while it is copied")
    orders = service.client.get("/v1/jobs")["jobs"]
    assert len(orders) == (1 if instant == "after it" else 0)
    if instant == "after it":
        number = orders[0]["id"]
        while service.client.get(f"/v1/jobs/{number}")["ended_at"] is None:
            time.sleep(0.02)  # between two looks, not in place of an answer
        assert service.client.get(f"/v1/jobs/{number}")["result"]["exit_code"] == 0
        assert lies(service) == [bundle.name], "nobody is there to take them away"
    else:
        assert import_events(service) == [], (
            "nothing was begun that somebody would have to bring to its end"
        )
    if ROOT:  # the very line again takes the place of what was left, and takes all of it away
        words = ("import", str(bundle), "--json")
        done = service.run(*words, user=OPERATOR, groups=(READER, OPERATOR))
        assert json.loads(done.stdout)["imported"] is True, done.stdout + done.stderr
        assert lies(service) == []


@needs_people
def test_partial_copy_is_not_accepted_as_a_bundle(service: Served, bundle: Path) -> None:
    """A user who imports the leftover learns that it is truncated."""
    cut_off(service, bundle, "while it is copied")
    os.chown(service.demo.state / "inbox" / bundle.name, 0, -1)
    refused = ordered(service, bundle.name)["document"]["error"]["code"]
    assert refused == "NU-2303"
    assert [kind for kind, _ in import_events(service)] == ["import-started", "import-rejected"]


@needs_people
def test_import_reads_only_files_of_the_requester(service: Served, bundle: Path) -> None:
    """Anyone who exchanges a file between the order and the work only has it refused."""
    name = lay(service, bundle, OPERATOR)
    with Journal.open(service.demo.state / JOURNAL_FILE) as journal:
        person = Actor("somebody", uid_of(READER))
        number = JobQueue(journal).enqueue(JobKind.IMPORT, {"file": name}, person)
        event = journal.read_last_event_number()
    service.send(1)  # as the interface wakes it
    for found in service.client.stream(event):
        if found.kind == "job-ended":
            break
    result = service.client.get(f"/v1/jobs/{number}")["result"]
    assert result["document"]["error"]["code"] == "NU-9334"
    assert import_events(service) == [
        ("import-started", "somebody"),
        ("import-rejected", "somebody"),
    ]


@pytest.mark.skipif(get_abi_version() < 2, reason="this kernel knows no Landlock")
def test_import_works_in_a_confined_process(service: Served, bundle: Path) -> None:
    """As its unit has it: nothing that an import needs to write is among what was given up."""
    name, me = lay(service, bundle), os.geteuid()
    service.stop()
    settings = {"service": {"mode": "notify", "timezone": "UTC", "runner": "systemd", **RIGHTS}}
    service.demo.configure(settings)
    (service.demo.root / "opt/ncen-updater").mkdir(parents=True, exist_ok=True)
    with Journal.open(service.demo.state / JOURNAL_FILE) as journal:
        number = JobQueue(journal).enqueue(JobKind.IMPORT, {"file": name}, Actor("me", me))
    worker = Worker("ncen_updater.agent.cli.worker", (str(service.config),), stderr=True)
    result = call_worker(worker, {"command": ["import", "--job", str(number)]})
    assert result["exit_code"] == 0, result
    assert import_events(service) == [("import-started", "me"), ("imported", "me")]


def test_file_that_changed_its_size_is_refused(service: Served, bundle: Path) -> None:
    name = lay(service, bundle)
    there = service.demo.state / "inbox" / name
    there.write_bytes(there.read_bytes()[:-10])
    assert ordered(service, name)["document"]["error"]["code"] == "NU-2303"
    there.write_bytes(bundle.read_bytes() + b"more")
    assert ordered(service, name)["document"]["error"]["code"] == "NU-2303"


def test_import_directory_removed_meanwhile_is_reported(service: Served, bundle: Path) -> None:
    (service.demo.state / "inbox").rename(service.demo.state / "gone")
    with pytest.raises(UpdaterError, match="NU-9333"):
        service.client.get("/v1/inbox")
    with pytest.raises(UpdaterError, match="NU-9333"):
        ordered(service, bundle.name)
