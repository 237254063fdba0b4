"""Tests of the packaged receipt spool, with a real nginx and the agent's sender."""

from __future__ import annotations

import hashlib
import http.client
import os
import pwd
import ssl
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ncen_updater.agent.config.agent_config import FeedSettings
from ncen_updater.agent.service.notifications.send_worker import put_receipt
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import RECEIPT_NOT_DELIVERED
from ncen_updater.publisher.fleet.store import FleetStore
from tests.publisher.fleet.sites import RELEASES, TODAY, Reporter
from tests.support.forks import DEADLINE_S
from tests.support.nginx import CONFIGURATION, Nginx, find_nginx, nginx
from tests.support.tls import Authority

PROGRAM = find_nginx()
TMPFILES = Path(__file__).parents[2] / "packaging/publisher/ncen-publisher.tmpfiles"
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="nginx is not installed")


@dataclass(frozen=True)
class Spool:
    """A server, what it took, and what a site needs to send there."""

    server: Nginx
    directory: Path
    settings: FeedSettings

    @property
    def address(self) -> str:
        return f"{self.server.url}/spool/"

    def ask(self, method: str, name: str, content: bytes = b"") -> int:
        context = ssl.create_default_context(cafile=self.settings.ca_file)
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.server.port, timeout=DEADLINE_S, context=context
        )
        try:
            connection.request(method, name, content)
            return connection.getresponse().status
        finally:
            connection.close()


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    authority = Authority(tmp_path / "tls")
    root = tmp_path / "srv"
    (root / "spool").mkdir(parents=True)
    places = {
        "/var/lib/ncen-receipts": str(root),
        "/etc/ssl/receipts.pem": str(authority.certify("receipts")),
    }
    rules = (CONFIGURATION.parent / "receipts.conf").read_text("utf-8")
    with nginx(str(PROGRAM), root, tmp_path / "nginx", rules, places, listens=443) as server:
        settings = FeedSettings(urls=("http://127.0.0.1:9/",), ca_file=authority.file)
        yield Spool(server, root / "spool", settings)


def test_receipt_is_stored_under_its_digest_and_unreadable(spool: Spool) -> None:
    signed = Reporter("ke-1", "KE").write()
    put_receipt(signed, spool.address, spool.settings)
    name = hashlib.sha256(signed.content).hexdigest()
    assert [path.name for path in spool.directory.iterdir()] == [name]
    assert (spool.directory / name).read_bytes() == signed.content
    # An answer was lost, and it is sent again.
    put_receipt(signed, spool.address, spool.settings)
    # Who knows the name neither reads, nor removes, nor replaces it.
    for method in ("GET", "HEAD", "DELETE", "POST", "PROPFIND", "MOVE"):
        assert spool.ask(method, f"/spool/{name}") in (403, 405)
    assert spool.ask("PUT", f"/spool/{name}", b"another") == 204
    assert (spool.directory / name).read_bytes() == signed.content
    assert not spool.server.log.exists() or spool.server.log.read_text() == ""


@pytest.mark.parametrize(
    "name",
    [
        "/", "/spool/", "/spool/x", f"/spool/{'A' * 64}", f"/spool/{'a' * 65}",
        f"/spool/{'a' * 64}/", f"/spool/../{'a' * 64}", f"/{'a' * 64}", f"/partial/{'a' * 64}",
    ],
)  # fmt: skip
def test_other_paths_return_404(spool: Spool, name: str) -> None:
    for method in ("GET", "PUT", "DELETE"):
        assert spool.ask(method, name, b"x") == 404
    assert [*spool.directory.iterdir()] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="root gives directories away")
def test_what_nginx_writes_is_imported_by_the_user_of_the_package() -> None:
    """Directories as the package makes them; nginx as www-data, the import as another user."""
    users = {"root": 0, "www-data": pwd.getpwnam("www-data").pw_uid, "ncen-publisher": 64_999}
    with tempfile.TemporaryDirectory() as place:
        work, lines = Path(place), TMPFILES.read_text("utf-8").splitlines()
        work.chmod(0o755)  # both users come in
        for _, path, mode, user, group, _ in (line.split() for line in lines if line[:1] == "d"):
            made = work / path.lstrip("/")
            made.mkdir(parents=True)
            os.chown(made, users[user], users[group])
            made.chmod(int(mode, 8))
        state = work / "var/lib/ncen-publisher"
        state.mkdir()
        os.chown(state, users["ncen-publisher"], users["ncen-publisher"])
        authority, root = Authority(work / "tls"), work / "var/lib/ncen-receipts"
        places = {
            "/var/lib/ncen-receipts": str(root),
            "/etc/ssl/receipts.pem": str(authority.certify("receipts")),
        }
        rules = (CONFIGURATION.parent / "receipts.conf").read_text("utf-8")
        settings = FeedSettings(urls=("http://127.0.0.1:9/",), ca_file=authority.file)
        site, spool = Reporter("ke-1", "KE"), root / "spool"
        given = str(PROGRAM), root, work / "nginx", rules, places
        with nginx(*given, listens=443, user="www-data") as server:
            for version in ("3.2.4", "9.9.9"):
                put_receipt(site.write(running=version), f"{server.url}/spool/", settings)
        assert {path.owner() for path in spool.iterdir()} == {"www-data"}
        assert {stat.S_IMODE(path.stat().st_mode) for path in spool.iterdir()} == {0o640}
        pid = os.fork()
        if pid == 0:
            try:
                os.setgroups([])
                os.setgid(users["ncen-publisher"])
                os.setuid(users["ncen-publisher"])
                with FleetStore.open(state / "fleet.db") as store:
                    taken = store.import_spool(spool, RELEASES, TODAY)
                    os._exit(10 * taken.stored + taken.refused)
            finally:
                os._exit(99)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 11
        assert [path.name for path in spool.iterdir()] == ["refused"]


def test_large_file_is_refused(spool: Spool) -> None:
    assert spool.ask("PUT", f"/spool/{'a' * 64}", os.urandom(16_385)) == 413
    assert [*spool.directory.iterdir()] == []


def test_untrusted_server_gets_nothing(spool: Spool, tmp_path: Path) -> None:
    other = spool.settings.model_copy(update={"ca_file": Authority(tmp_path / "b", "b").file})
    with pytest.raises(UpdaterError) as refused:
        put_receipt(Reporter("ke-1", "KE").write(), spool.address, other)
    assert refused.value.message is RECEIPT_NOT_DELIVERED
    assert [*spool.directory.iterdir()] == []
