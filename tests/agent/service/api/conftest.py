"""A site on the disk, and what answers for it, in this process."""

from __future__ import annotations

import io
import json
import pwd
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ncen_updater.agent.config.essential_settings import load_essential_settings
from ncen_updater.agent.config.service import ServiceSettings
from ncen_updater.agent.policy.automation import RehearsalStatus
from ncen_updater.agent.service.api.app import ApiApplication
from ncen_updater.agent.service.api.authorization import ApiContext
from ncen_updater.agent.service.apply_runner import ApplyRunner, WorkerResult
from ncen_updater.agent.service.inspections import InspectionQueue
from ncen_updater.agent.service.snapshot import SnapshotStore
from ncen_updater.agent.storage.service_state import Assessment, ServiceState, ServiceStateFile
from ncen_updater.common.progress import ProgressUpdate
from tests.agent.cli.site import TrialSite, make_site

NOW = datetime(2026, 11, 24, 6, tzinfo=UTC)
LATER = (NOW + timedelta(days=1)).isoformat()
BINDING = "ab" * 32
OTHER = "cd" * 32
BASIS: dict[str, object] = {
    "plan": "p",
    "schemas": {},
    "configuration": "c",
    "rehearsal": "r",
    "sizes": {},
    "at": None,
}
NEXT = Assessment(
    last_event=0,
    current="3.2.4",
    target="3.3.0",
    slot_built=True,
    rehearsal_status=RehearsalStatus.PASSED,
    binding=BINDING,
    basis=BASIS,
)
#: Users that every Debian has, each in a group of its own name.
READER, OPERATOR, APPROVER, NOBODY = "daemon", "bin", "mail", "games"
SETTINGS = ServiceSettings(
    timezone="UTC",
    required_approvals=2,
    viewer_group=READER,
    operator_group=OPERATOR,
    approver_group=APPROVER,
)


def uid_of(user: str) -> int:
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        pytest.skip(f"this machine has no user '{user}'")


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.content)

    @property
    def code(self) -> str:
        return str(self.document["error"]["code"])


PROVED = {"chain_head": f"7:{'ab' * 32}", "as_recorded": True, "findings": [], "lines": ["whole"]}
FOUND: dict[str, dict[str, object]] = {
    "plan": {"available": False, "hops": [], "rejected": [], "lines": []},
    "dossier": {"error": {"code": "NU-6022", "title": "Not rehearsed.", "remedy": "Rehearse.",
                          "state": "As it was.", "detail": None, "values": {}}},
    "rollback": {"error": {"code": "NU-6017", "title": "Nothing.", "remedy": "Nothing.",
                           "state": "As it was.", "detail": None, "values": {}}},
    "doctor": {"healthy": True, "findings": [], "lines": ["well"]},
    "verify": PROVED,
    "support-bundle": {"parts": {"log.txt": {"bytes": 3}}, "shown": {}, "leaks": [],
                       "not_compared_with": {}, "archive": "AAAA", "lines": []},
    "receipt": {
        "level": "none", "lines": [], "state": "Receipts are off.",
        "levels": [
            {"level": "version", "statement": '{"level":"version"}',
             "sentences": ["Site: ke-national", "Level of this receipt: version"]},
            {"level": "outcome", "statement": '{"level":"outcome"}',
             "sentences": ["Site: ke-national", "Level of this receipt: outcome",
                           "Last change: 3.2.4 to 3.3.0"]},
            {"level": "figures", "statement": '{"level":"figures"}',
             "sentences": ["Site: ke-national", "Level of this receipt: figures",
                           "Last change: 3.2.4 to 3.3.0", "Database server: postgresql 15"]},
        ],
    },
}  # fmt: skip


@dataclass
class PlayedInspector(ApplyRunner):
    """Returns given results; ``tests/agent/service/test_inspections.py`` runs the real process."""

    found: WorkerResult | Exception | None = None
    asked: list[tuple[str, ...]] = field(default_factory=list)
    told: ProgressUpdate | None = None
    #: Held closed, an inspection goes on until it is asked to end.
    door: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.door.set()

    def inspect(
        self,
        command: Sequence[str],
        on_progress: Callable[[ProgressUpdate], None],
        should_stop: Callable[[], bool],
        *,
        timeout_s: float,
        max_bytes: int,
    ) -> WorkerResult:
        assert timeout_s > 0 and max_bytes > 0
        self.asked.append(tuple(command))
        if self.told is not None:
            on_progress(self.told)
        while not self.door.wait(0.02) and not should_stop():
            pass
        if isinstance(self.found, Exception):
            raise self.found
        document = FOUND[command[0]]
        return self.found or WorkerResult(3 if "error" in document else 0, document)


@dataclass
class Counter:
    """Where people ask, without a socket: the kernel's part is played by ``user``."""

    site: TrialSite
    snapshots: SnapshotStore
    woken: list[int] = field(default_factory=list)
    inspector: PlayedInspector = field(default_factory=PlayedInspector)
    in_the_way: bool = False

    def __post_init__(self) -> None:
        self.keeper = ServiceStateFile(self.site.state / "service" / "state.json")
        (self.site.state / "service").mkdir()
        self.inspections = InspectionQueue(self.inspector, lambda: NOW, lambda: self.in_the_way)
        self.context = ApiContext(
            self.site.config,
            load_essential_settings(self.site.config),
            self.keeper,
            self.snapshots,
            lambda: self.woken.append(1),
            lambda: NOW,
            self.inspections,
            self.site.root / "agent",
        )
        self.application = ApiApplication(self.context, lambda environ: environ["uid"])

    def know(self, assessment: Assessment | None) -> None:
        self.keeper.save(ServiceState(assessment))

    def ask(
        self, method: str, path: str, body: object = None, user: str | int = 0, **environ: Any
    ) -> Answer:
        content = body if isinstance(body, bytes) else b""
        if body is not None and not isinstance(body, bytes):
            content = json.dumps(body).encode()
        path, _, query = path.partition("?")
        given = {
            "REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": query,
            "CONTENT_LENGTH": str(len(content)), "wsgi.input": io.BytesIO(content),
            "uid": user if isinstance(user, int) else uid_of(user),
            **({"CONTENT_TYPE": "application/json"} if content else {}), **environ,
        }  # fmt: skip
        begun: list[Any] = []
        parts = self.application(given, lambda status, headers: begun.extend((status, headers)))
        return Answer(int(begun[0].split()[0]), dict(begun[1]), b"".join(parts))

    def rows(self) -> dict[str, list[tuple[object, ...]]]:
        """Everything that the journal holds."""
        connection = sqlite3.connect(self.site.journal)
        try:
            names = [
                row[0]
                for row in connection.execute("SELECT name FROM sqlite_master WHERE type='table'")
            ]
            return {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in names}
        finally:
            connection.close()


@pytest.fixture
def counter(tmp_path: Path) -> Iterator[Counter]:
    yield Counter(make_site(tmp_path / "site"), SnapshotStore(SETTINGS, lambda: NOW))
