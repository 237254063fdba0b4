"""Tests of advisories for locked packages, with a stand-in for OSV."""

from __future__ import annotations

import contextlib
import json
import runpy
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.badinput.hostile import json_values

LOOKUP = SimpleNamespace(
    **runpy.run_path(str(Path(__file__).resolve().parents[2] / "script/advisories.py"))
)

#: Shortened, in the form of https://osv.dev/vulnerability/PYSEC-2018-28 and others.
REQUESTS: dict[str, Any] = {
    "schema_version": "1.7.0",
    "id": "PYSEC-2018-28",
    "modified": "2023-11-08T04:00:17Z",
    "published": "2018-10-09T17:29:00Z",
    "aliases": ["CVE-2018-18074", "GHSA-x84v-xcm2-53pg"],
    "details": "The Requests package before 2.20.0 sends an HTTP Authorization header on.\nMore.",
    "affected": [
        {
            "package": {"name": "requests", "ecosystem": "PyPI", "purl": "pkg:pypi/requests"},
            "ranges": [
                {"type": "GIT", "repo": "https://github.com/psf/requests",
                 "events": [{"introduced": "0"}, {"fixed": "3d968ff08364497"}]},
                {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.20.0"}]},
            ],
            "versions": ["2.19.0", "2.19.1"],
        }
    ],
}  # fmt: skip


TWO = ({"fixed": "3.2"}, {"introduced": "3.0"}, {"fixed": "2.0"}, {"introduced": "0"})


def about(
    *events: dict[str, str], versions: tuple[str, ...] = (), **more: object
) -> dict[str, Any]:
    ranges = [{"type": "ECOSYSTEM", "events": list(events)}] if events else []
    entry = {
        "package": {"name": "Zope.Interface", "ecosystem": "PyPI"},
        "ranges": ranges, "versions": list(versions),
    }  # fmt: skip
    return {"id": "X-1", "affected": [entry], **more}


@pytest.mark.parametrize(
    ("document", "version", "hit"),
    [
        (about({"introduced": "0"}, {"fixed": "2.0"}), "1.9", True),
        (about({"introduced": "0"}, {"fixed": "2.0"}), "2.0", False),
        (about({"introduced": "0"}, {"fixed": "2.0"}), "2.0rc1", True),
        (about({"introduced": "1.10"}, {"fixed": "2.0"}), "1.9", False),
        (about({"introduced": "1.0"}, {"last_affected": "1.5"}), "1.5", True),
        (about({"introduced": "1.0"}, {"last_affected": "1.5"}), "1.5.1", False),
        (about({"introduced": "0"}), "99", True),
        # Two ranges in one, and in another order than that of the versions.
        (about(*TWO), "3.1", True),
        (about(*TWO), "2.5", False),
        (about(versions=("1.0", "1.1")), "1.1", True),
        (about(versions=("1.0", "1.1")), "1.2", False),
        (about({"introduced": "0"}, withdrawn="2024-01-01T00:00:00Z"), "1.0", False),
        ({"id": "X-1", "affected": []}, "1.0", False),
        ({"id": "X-1"}, "1.0", False),
    ],
)  # fmt: skip
def test_affected_versions_are_matched(document: dict[str, Any], version: str, hit: bool) -> None:
    assert (
        LOOKUP.match_advisory(document, LOOKUP.LockedPackage("zope-interface", version)) is not None
    ) is hit


def test_advisory_is_summarised() -> None:
    found = LOOKUP.match_advisory(REQUESTS, LOOKUP.LockedPackage("requests", "2.19.1"))
    assert found is not None
    assert found.aliases == ("CVE-2018-18074", "GHSA-x84v-xcm2-53pg")
    assert found.fixed == ("2.20.0",)
    assert found.summary.endswith("header on.")


def test_control_characters_are_removed(
    locks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = {**REQUESTS, "summary": "\x1b]0;owned\x07\x1b[2J\u202ebad\nline"}
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("x.json", json.dumps(document))
    assert LOOKUP.main(words(locks, "--database", str(tmp_path / "x.zip"))) == 1
    said = capsys.readouterr().out
    assert not set(said) & {"\x1b", "\x07", "\u202e"}
    assert len(said.splitlines()) == 2


def test_unknown_document_form_is_reported(
    locks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("x.json", json.dumps({"affected": [{"package": "requests"}]}))
    assert LOOKUP.main(words(locks, "--database", str(tmp_path / "x.zip"))) == 2
    assert "not known" in capsys.readouterr().err


def test_other_ecosystems_are_ignored() -> None:
    document = json.loads(json.dumps(REQUESTS).replace("PyPI", "Debian:12"))
    assert LOOKUP.match_advisory(document, LOOKUP.LockedPackage("requests", "2.19.1")) is None


@given(data=st.dictionaries(st.sampled_from(["affected", "id", "aliases"]), json_values()))
def test_arbitrary_documents_are_handled(data: dict[str, Any]) -> None:
    with contextlib.suppress(LOOKUP.AdvisoryLookupError):
        LOOKUP.match_advisory(data, LOOKUP.LockedPackage("requests", "2.19.1"))


def test_lock_files_are_parsed() -> None:
    for path in LOOKUP.LOCKS.glob("*.txt"):
        text = path.read_text("utf-8")
        pinned = [line for line in text.splitlines() if "==" in line and not line.startswith(" ")]
        assert (
            len(LOOKUP.parse_locked_packages(text)) == len({line.split()[0] for line in pinned}) > 0
        )
    assert LOOKUP.parse_locked_packages(
        "Foo_Bar[x,y]==1.0 ; python_version < '3.12' \\\n    --hash=sha256:00\n"
    ) == {LOOKUP.LockedPackage("foo-bar", "1.0")}


class Osv(BaseHTTPRequestHandler):
    """As api.osv.dev: /v1/querybatch with ids and pages, /v1/vulns/ID; and the database."""

    documents: ClassVar[dict[str, Any]] = {"PYSEC-2018-28": REQUESTS}
    asked: ClassVar[list[dict[str, Any]]] = []
    broken = ""

    def _say(self, document: object, status: int = 200) -> None:
        content = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_POST(self) -> None:
        assert self.path == "/v1/querybatch"
        order = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        results: list[dict[str, Any]] = []
        for query in order["queries"]:
            self.asked.append(query)
            old = query["package"]["name"] == "requests" and query["version"].startswith("2.19")
            if old and "page_token" not in query:
                results.append({"vulns": [], "next_page_token": "more"})
            elif old:
                vulns = [{"id": "PYSEC-2018-28", "modified": "2023-11-08T04:00:17Z"}]
                results.append({"vulns": vulns})
            else:
                results.append({})
        self._say({"results": results[1:] if self.broken == "short" else results})

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        if self.path.startswith("/v1/vulns/") and name in self.documents:
            self._say([] if self.broken == "list" else self.documents[name])
        elif name == "all.zip":
            self._say(b"PK no zip" if self.broken == "zip" else self.server.bucket)  # type: ignore[attr-defined]
        else:
            self._say({"code": 5, "message": "Bug not found."}, 404)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def osv(tmp_path: Path) -> Iterator[str]:
    path = tmp_path / "bucket.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, document in Osv.documents.items():
            archive.writestr(f"{name}.json", json.dumps(document))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Osv)
    server.bucket = path.read_bytes()  # type: ignore[attr-defined]
    Osv.asked, Osv.broken = [], ""
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def locks(tmp_path: Path) -> Path:
    place = tmp_path / "locks"
    place.mkdir()
    (place / "agent.txt").write_text("Requests==2.19.1 \\\n    --hash=sha256:00\n    # via x\n")
    (place / "build.txt").write_text("setuptools==84.2.1\n")
    return place


def words(locks: Path, *more: str) -> list[str]:
    return ["--directory", str(locks), "--locks", "agent", "build", *more]


def test_advisories_are_requested_over_the_network(
    osv: str, locks: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert LOOKUP.main(words(locks, "--api", osv)) == 1
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("requests 2.19.1 (agent): PYSEC-2018-28 CVE-2018-18074 ")
    assert first.endswith("mended in 2.20.0")
    assert last == "advisories: 1 for 1 of 2 packages"
    told = {key for query in Osv.asked for key in query}
    assert told == {"package", "version", "page_token"}


def test_advisories_are_read_from_a_database_offline(
    osv: str, locks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database = tmp_path / "PyPI.zip"
    assert (
        LOOKUP.main(words(locks, "--download", str(database), "--from", f"{osv}/PyPI/all.zip")) == 1
    )
    fetched = capsys.readouterr().out
    Osv.asked = []
    assert LOOKUP.main(words(locks, "--database", str(database))) == 1
    assert capsys.readouterr().out == fetched
    assert not Osv.asked
    (locks / "agent.txt").write_text("requests==2.34.0\n")
    assert LOOKUP.main(words(locks, "--database", str(database))) == 0
    assert capsys.readouterr().out == "advisories: 0 for 0 of 2 packages\n"


@pytest.mark.parametrize("broken", ["short", "list"])
def test_malformed_answer_is_an_error(osv: str, locks: Path, broken: str) -> None:
    Osv.broken = broken
    assert LOOKUP.main(words(locks, "--api", osv)) == 2


def test_unreachable_service_is_an_error(locks: Path, tmp_path: Path, osv: str) -> None:
    assert LOOKUP.main(words(locks, "--api", "http://127.0.0.1:1")) == 2
    assert LOOKUP.main(words(locks, "--database", str(tmp_path / "none.zip"))) == 2
    Osv.broken = "zip"
    database = tmp_path / "PyPI.zip"
    database.write_bytes(b"as before")
    order = words(locks, "--download", str(database), "--from", f"{osv}/all.zip")
    assert LOOKUP.main(order) == 2
    assert LOOKUP.main(words(locks, "--download", str(database), "--from", f"{osv}/none")) == 2
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    assert LOOKUP.main(words(locks, "--database", str(tmp_path / "empty.zip"))) == 2
    assert LOOKUP.main(["--directory", str(locks), "--locks", "none"]) == 2
