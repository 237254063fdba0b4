"""Tests of monitoring the public feed over real HTTP: each fault is reported in advance.

The program runs by the real clock, so the feeds here are made for it: a feed that will lapse is one
whose signers agreed on short periods.
"""

from __future__ import annotations

import json
import shlex
import socket
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pytest

from demo.release_flow import publish_release
from ncen_updater.common.messages import TRUSTED_ROOT_MISSING, ExitCode
from ncen_updater.publisher.cli.main import cli, run
from ncen_updater.publisher.distribute import monitor
from ncen_updater.publisher.distribute.publishing import Publisher
from ncen_updater.publisher.feed.feed_directory import FeedDirectory
from ncen_updater.publisher.new.trial import FeedKeys, create_feed, publish_draft
from ncen_updater.publisher.signing.draft import draft_renewal
from tests.publisher.releases import write_release
from tests.support.http_server import PORTAL, Fault, WebServer, serving
from tests.support.tls import Authority

PACKAGING = Path(__file__).parents[2] / "packaging" / "publisher"


def _now() -> datetime:
    return datetime.now(UTC)


class Public:
    """A feed that is served, and the program that looks at it."""

    def __init__(
        self, work: Path, keys: FeedKeys, capsys: pytest.CaptureFixture[str], server: WebServer
    ) -> None:
        self.feed, self.root = work / "public", work / "trusted.json"
        self.work, self.keys, self.server, self._capsys = work, keys, server, capsys

    def make(
        self,
        days: Mapping[str, int] | None = None,
        made: Callable[[], datetime] = _now,
        release: bool = True,
    ) -> None:
        create_feed(self.feed, self.keys, made, expiry_days=days)
        if release:
            publish_release(self.feed, [write_release(self.work / "r")], self.keys, made)
        self.root.write_bytes((self.feed / "metadata" / "1.root.json").read_bytes())

    def look(self, *more: object) -> tuple[int, Any, set[str]]:
        words = ("monitor", self.server.url, "--root", self.root, *more, "--json")
        code = run([str(word) for word in words])
        said = json.loads(self._capsys.readouterr().out)
        assert said["exit_code"] == code
        return code, said, {f["code"] for f in said["findings"] if f["severity"] == "critical"}


@pytest.fixture
def public(
    tmp_path: Path, made: tuple[Path, FeedKeys], capsys: pytest.CaptureFixture[str]
) -> Iterator[Public]:
    (tmp_path / "public").mkdir()
    with serving(tmp_path / "public") as server:
        yield Public(tmp_path, made[1], capsys, server)


def test_healthy_feed_has_no_findings(public: Public) -> None:
    public.make()
    before = sorted(public.work.rglob("*"))
    code, said, strict = public.look("--feed", public.feed, "--deep")
    assert (code, strict) == (0, set()), said
    assert {role["role"] for role in said["roles"]} == {
        "root", "targets", "snapshot", "timestamp", "ncen", "ncen-updater",
    }  # fmt: skip
    assert said["targets"] == 3
    assert sorted(public.work.rglob("*")) == before
    for status in (403, 405, 501):
        public.server.no_head = status
        assert public.look()[0] == 0


@pytest.mark.parametrize(
    ("role", "days", "refused"),
    [
        ("timestamp", 2, "NU-7202"),
        ("timestamp", 4, None),
        ("snapshot", 2, "NU-7202"),
        ("root", 59, "NU-7202"),
        ("targets", 59, "NU-7202"),
        ("ncen", 59, "NU-7202"),
        ("ncen-updater", 59, "NU-7202"),
        ("ncen", 62, None),
    ],
)
def test_soon_expiring_role_is_reported(
    public: Public, role: str, days: int, refused: str | None
) -> None:
    public.make({role: days}, release=False)
    code, said, strict = public.look()
    assert strict == ({refused} if refused else set()), said
    assert code == (14 if refused else 0)
    assert not refused or role in json.dumps(said["findings"])
    # The clock of the check is put ahead; no clock is wrong.
    causes = {f["figures"]["code"] for f in said["findings"] if f["code"] == "NU-7202"}
    assert causes <= {"NU-2007", "NU-2023"}


@pytest.mark.parametrize("role", ["timestamp", "targets", "ncen"])
def test_expired_role_is_reported(public: Public, role: str) -> None:
    public.make({role: 3}, lambda: _now() - timedelta(days=4), release=False)
    if role != "timestamp":
        Publisher(FeedDirectory(public.feed), _now).refresh_online_roles(public.keys.online)
    code, said, strict = public.look()
    assert (code, strict, said["roles"]) == (14, {"NU-7201"}, [])


def test_proxy_is_used(public: Public) -> None:
    """That of the environment is not, so the option is the only way out of some networks."""
    public.make()
    assert public.look()[0] == 0
    assert public.look("--proxy", "http://127.0.0.1:9")[0] == 7


def test_private_authority_is_trusted_if_given(public: Public, tmp_path: Path) -> None:
    public.make()
    authority = Authority(tmp_path / "tls")
    with serving(public.feed, tls=authority.server_context(authority.certify("server"))) as server:
        public.server = server
        assert public.look()[0] != 0
        code, said, strict = public.look("--ca-file", authority.file)
    assert (code, strict) == (0, set()), said


def test_due_renewal_is_reported_early(public: Public, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "OFFLINE_AHEAD_DAYS", 30)
    public.make({"ncen": 120}, lambda: _now() - timedelta(days=61), release=False)
    Publisher(FeedDirectory(public.feed), _now).refresh_online_roles(public.keys.online)
    code, said, _ = public.look()
    due = [f for f in said["findings"] if f["code"] == "NU-7204"]
    assert (code, [f["figures"]["role"] for f in due]) == (0, ["ncen"])


def test_outdated_public_copy_is_reported(public: Public) -> None:
    """A cache keeps the old timestamp; the site is well, and the Secretariat's feed is newer."""
    public.make()
    old = (public.feed / "metadata" / "timestamp.json").read_bytes()
    renewal = draft_renewal(FeedDirectory(public.feed).read_state(), ["ncen"], _now())
    publish_draft(public.feed, renewal, public.keys, _now)
    public.server.faults.append(Fault("timestamp.json", body=old))
    assert public.look()[0] == 0
    code, said, strict = public.look("--feed", public.feed)
    assert (code, strict) == (14, {"NU-7203"})
    behind = {f["figures"]["role"] for f in said["findings"] if f["code"] == "NU-7203"}
    assert behind == {"ncen", "snapshot", "timestamp"}


FAULTS = [
    # what the server does, the finding, whether only --deep sees it
    (Fault("timestamp.json", headers={"Cache-Control": "public, max-age=86400"}), "NU-7216", False),
    (
        Fault("2.root.json", status=404, headers={"Cache-Control": "max-age=86400"}),
        "NU-7218",
        False,
    ),
    (Fault("ncen-3.3.0.tar.gz", status=404), "NU-7212", False),
    (Fault("releases/ncen", status=500), "NU-7212", False),
    (Fault("ncen-3.3.0.tar.gz", body=b"short"), "NU-7213", False),
    (Fault("trees/ncen", cut_after=3), "NU-7211", True),
]


@pytest.mark.parametrize(("fault", "code", "deep"), FAULTS)
def test_server_and_cache_faults_are_reported(
    public: Public, fault: Fault, code: str, deep: bool
) -> None:
    public.make()
    assert public.look("--deep")[2] == set()
    public.server.faults.append(fault)
    status, said, strict = public.look(*(["--deep"] if deep else []))
    assert (status, strict) == (7 if code == "NU-7211" else 1, {code}), said
    if deep:
        assert public.look()[2] == set()


def test_altered_file_of_equal_length_is_found(public: Public) -> None:
    public.make()
    archive = next((public.feed / "targets").glob("*.tar.gz"))
    content = bytearray(archive.read_bytes())
    content[-1] ^= 1
    archive.write_bytes(content)
    assert public.look()[2] == set()
    assert public.look("--deep")[2] == {"NU-7214"}


@pytest.mark.parametrize(
    "fault", [Fault("metadata", status=500), Fault("", body=PORTAL, content_type="text/html")]
)
def test_non_feed_server_is_reported(public: Public, fault: Fault) -> None:
    public.make(release=False)
    public.server.faults.append(fault)
    assert public.look()[::2] == (14, {"NU-7201"})


def test_unusable_root_of_the_monitor_is_not_blamed_on_the_feed(
    public: Public, capsys: pytest.CaptureFixture[str]
) -> None:
    public.make(release=False)
    public.root.write_text("half a root")
    assert run(["monitor", public.server.url, "--root", str(public.root)]) == ExitCode.TRUST
    said = capsys.readouterr()
    assert TRUSTED_ROOT_MISSING.code in said.err
    assert "NU-7201" not in said.out + said.err


@pytest.mark.parametrize(
    ("days", "failed"), [(None, (7, {"NU-7208"})), (2, (14, {"NU-7202", "NU-7208"}))]
)
def test_unreachable_server_is_not_a_broken_feed(
    public: Public,
    capsys: pytest.CaptureFixture[str],
    days: int | None,
    failed: tuple[int, set[str]],
) -> None:
    public.make({"timestamp": days} if days else None, release=False)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}/"
    assert run(["monitor", nobody, "--root", str(public.root)]) == 7
    said = " ".join(capsys.readouterr().out.split())
    assert f"Not checked: {nobody}" in said
    assert "Act now" not in said
    # A further place, likewise; what is known to be wrong says more.
    assert public.look("--also", nobody)[::2] == failed


def test_server_without_range_support_is_reported(
    tmp_path: Path, made: tuple[Path, FeedKeys], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "public").mkdir()
    with serving(tmp_path / "public", ranges=False) as server:
        public = Public(tmp_path, made[1], capsys, server)
        public.make()
        code, said, _ = public.look()
    assert code == 0
    found = [f for f in said["findings"] if f["code"] == "NU-7215"]
    assert [f["figures"]["count"] for f in found] == [3]


def test_monitor_output_is_readable(public: Public, capsys: pytest.CaptureFixture[str]) -> None:
    public.make({"timestamp": 2}, release=False)
    words = ["monitor", public.server.url, "--root", str(public.root), "--lang", "fr"]
    assert run(words) == 14
    out = capsys.readouterr().out
    assert "inutilisable dans 3 jours" in out
    assert "timestamp" in out
    assert run(["monitor", "ftp://x/", "--root", str(public.root)]) == 2
    assert run(["monitor", public.server.url]) == 2


@pytest.mark.parametrize("unit", sorted(PACKAGING.glob("*.service")), ids=lambda p: p.stem)
def test_example_units_call_existing_commands(unit: Path) -> None:
    """Every option in the example units exists, and every one that is required is given."""
    text = unit.read_text().replace("\\\n", " ")
    for line in (row for row in text.splitlines() if row.startswith("ExecStart=")):
        program, *words = shlex.split(line.removeprefix("ExecStart="))
        assert program.endswith("/ncen-publisher")
        command: click.Command | None = cli
        while isinstance(command, click.Group):
            command = command.get_command(click.Context(command), words.pop(0))
        assert command is not None
        given = {word for word in words if word.startswith("--")}
        known = {option for parameter in command.params for option in parameter.opts}
        assert given <= known
        required = {
            parameter.opts[0]
            for parameter in command.params
            if isinstance(parameter, click.Option) and parameter.required
        }
        assert required <= given
        assert unit.with_suffix(".timer").is_file()
