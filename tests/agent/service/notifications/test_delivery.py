"""Tests of delivery to a real mail server and a real webhook receiver."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ncen_updater.agent.config.loader import load_config
from ncen_updater.agent.model.event_names import NotificationKind
from ncen_updater.agent.service.notifications import send_worker as sender
from ncen_updater.agent.service.notifications.notification import Notification
from ncen_updater.agent.service.notifications.notifier import (
    Sender,
    create_sender,
    find_send_socket,
)
from ncen_updater.common.errors import UpdaterError
from tests.agent.cli.site import TrialSite
from tests.agent.service.notifications.receivers import dead_port, hook_server, mail_server
from tests.support.activation import ACTIVATOR, activated
from tests.support.tls import Authority

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
PASSWORD, SECRET = "correct horse 'battery\"", "0123456789abcdef"
UPGRADED = Notification.create(
    "event 7", NotificationKind.UPGRADED, AT, change="abcdefgh", from_="3.2.4", version="3.3.0",
    low_s=200.0, likely_s=240.0, high_s=300.0, downtime_s=250.0,
)  # fmt: skip
FAILED = Notification.create(
    "event 9",
    NotificationKind.UPGRADE_FAILED,
    AT,
    change="abcdefgh",
    from_="3.2.4",
    version="3.3.0",
    code="NU-4150",
)


def order(way: str, *news: Notification, left_out: int = 0) -> dict[str, object]:
    return {
        "channel": way,
        "id": "0123abcd",
        "dropped": left_out,
        "chain_head": "",
        "notifications": [item.to_json() for item in news],
    }


def secret_file(site: TrialSite, content: str, mode: int = 0o600) -> Path:
    path = site.root / "secret"
    path.write_text(content + "\n")
    path.chmod(mode)
    return path


def configure(site: TrialSite, text: str, language: str = "en") -> None:
    config = site.config.read_text()
    site.config.write_text(f'{config}\n[notify]\nlanguage = "{language}"\n{text}')


def by_mail(
    site: TrialSite,
    port: int,
    security: str = "none",
    *,
    ca: Path | None = None,
    login: bool = False,
    to: str = "it@example.org",
    timeout: float = 30,
    language: str = "en",
) -> None:
    text = (
        f'[notify.mail]\nhost = "127.0.0.1"\nport = {port}\nsecurity = "{security}"\n'
        f'sender = "agent@example.org"\nto = ["{to}", "boss@example.org"]\ntimeout_s = {timeout}\n'
    )
    if ca:
        text += f'ca_file = "{ca}"\n'
    if login:
        text += f'user = "agent"\npassword_file = "{secret_file(site, PASSWORD)}"\n'
    configure(site, text, language)


def by_hook(
    site: TrialSite, url: str, *, ca: Path | None = None, mode: int = 0o600, secret: str = SECRET
) -> None:
    file = secret_file(site, secret, mode)
    text = f'[notify.webhook]\nurl = "{url}"\nsecret_file = "{file}"\ntimeout_s = 30\n'
    configure(site, text + (f'ca_file = "{ca}"\n' if ca else ""))


def send(site: TrialSite, what: dict[str, object]) -> str | None:
    """Send without a process of its own, which costs a second each."""
    try:
        sender.deliver_message(site.config, what)
    except UpdaterError as error:
        assert PASSWORD not in repr((error, error.detail, error.values))
        return error.code
    return None


def send_by_process(site: TrialSite, what: dict[str, object], limit_s: float = 60) -> str | None:
    return create_sender(site.config, None, limit_s)(what)


# ---- mail ----------------------------------------------------------------------------------------


def test_mail_contains_text_and_numbers(site: TrialSite) -> None:
    with mail_server() as box:
        by_mail(site, box.port)
        assert send_by_process(site, order("mail", FAILED, UPGRADED, left_out=3)) is None
    (mail,) = box.mails
    assert mail["Subject"].startswith("[ke-1] Upgrade from 3.2.4 to 3.3.0 failed")
    assert "(+1)" in mail["Subject"]
    assert mail["Message-ID"] == "<0123abcd@example.org>"
    assert mail["To"] == "it@example.org, boss@example.org"
    assert mail["Importance"] == "high"
    text = mail.get_content()
    assert "Downtime: 4 min 10 s; predicted: about 4 min 00 s (at most 5 min 00 s)" in text
    assert "NU-4150" in text
    assert "not delivered: 3" in text


def test_mail_uses_the_language_of_the_site(site: TrialSite) -> None:
    with mail_server() as box:
        by_mail(site, box.port, language="fr")
        assert send(site, order("mail", UPGRADED)) is None
    text = box.mails[0].get_content()
    assert "Indisponibilité" in text
    assert "Officers" not in text


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_password_is_sent_only_over_tls(
    site: TrialSite, authority: Authority, security: str
) -> None:
    tls = authority.server_context(authority.certify("mail"))
    with mail_server(tls, password=PASSWORD, at_once=security == "tls") as box:
        by_mail(site, box.port, security, ca=authority.file, login=True)
        assert send(site, order("mail", UPGRADED)) is None
    assert box.logins == ["agent"]
    assert len(box.mails) == 1


def test_wrong_password_is_reported(
    site: TrialSite, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    tls = authority.server_context(authority.certify("mail"))
    with mail_server(tls, password="another") as box:
        by_mail(site, box.port, "starttls", ca=authority.file, login=True)
        assert send_by_process(site, order("mail", UPGRADED)) == "NU-9604"
    assert not box.mails
    assert PASSWORD not in caplog.text


def test_password_that_mail_cannot_carry_is_reported(site: TrialSite, authority: Authority) -> None:
    tls = authority.server_context(authority.certify("mail"))
    with mail_server(tls, password=PASSWORD) as box:
        by_mail(site, box.port, "starttls", ca=authority.file, login=True)
        secret_file(site, "mot de passe à changer")
        assert send(site, order("mail", UPGRADED)) == "NU-9612"
    assert not box.logins


def test_mail_server_with_an_impossible_name_is_unreachable(site: TrialSite) -> None:
    by_mail(site, 9)
    text = site.config.read_text()
    site.config.write_text(
        text.replace('host = "127.0.0.1"\nport = 9', 'host = "mail..example.org"')
    )
    assert send(site, order("mail", UPGRADED)) == "NU-9602"


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_mail_server_with_an_untrusted_certificate_gets_nothing(
    site: TrialSite, authority: Authority, tmp_path: Path, security: str
) -> None:
    other = Authority(tmp_path / "other", "other")
    tls = other.server_context(other.certify("mail"))
    with mail_server(tls, password=PASSWORD, at_once=security == "tls") as box:
        by_mail(site, box.port, security, ca=authority.file, login=True)
        assert send(site, order("mail", UPGRADED)) == "NU-9605"
    assert not box.logins
    assert not box.mails


def test_mail_server_without_tls_gets_nothing(site: TrialSite) -> None:
    with mail_server() as box:
        by_mail(site, box.port, "starttls")
        assert send(site, order("mail", UPGRADED)) == "NU-9605"
    assert not box.mails


def test_refused_message_is_reported(site: TrialSite) -> None:
    with mail_server() as box:
        box.refuse = "451 come back later"
        by_mail(site, box.port)
        assert send(site, order("mail", UPGRADED)) == "NU-9603"


def test_refused_address_does_not_block_the_others(site: TrialSite) -> None:
    with mail_server() as box:
        box.refuse_to = frozenset({"gone@example.org"})
        by_mail(site, box.port, to="gone@example.org")
        assert send(site, order("mail", UPGRADED)) is None
        box.refuse_to = frozenset({"gone@example.org", "boss@example.org"})
        assert send(site, order("mail", UPGRADED)) == "NU-9603"
    assert len(box.mails) == 1


def test_unreachable_or_silent_mail_server_is_reported(site: TrialSite) -> None:
    with dead_port() as port:
        by_mail(site, port, timeout=0.2)
        assert send(site, order("mail", UPGRADED)) == "NU-9602"
    assert send(site, order("mail", UPGRADED)) == "NU-9602"


# ---- webhook -------------------------------------------------------------------------------------


def test_webhook_is_signed_and_contains_values_and_text(
    site: TrialSite, authority: Authority
) -> None:
    with hook_server(authority.server_context(authority.certify("hook"))) as hook:
        by_hook(site, f"https://127.0.0.1:{hook.port}/x", ca=authority.file)
        assert send_by_process(site, order("webhook", UPGRADED)) is None
    ((headers, body),) = hook.posts
    moment, _, given = headers["NCEN-Signature"].partition(",v1=")
    seconds = moment.removeprefix("t=")
    expected = hmac.new(SECRET.encode(), f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
    assert given == expected
    assert headers["NCEN-Message"] == "0123abcd"
    document = hook.documents()[0]
    assert document["site"] == "ke-1"
    (item,) = document["notifications"]
    assert item["kind"] == "upgraded"
    assert item["values"]["downtime_s"] == 250.0
    assert item["lines"][0] == "Upgrade from 3.2.4 to 3.3.0 completed"


@dataclass(frozen=True)
class Refusal:
    name: str
    status: int
    code: str | None


@pytest.mark.parametrize(
    "row",
    [
        Refusal("taken", 202, None),
        Refusal("an error of the receiver", 503, "NU-9603"),
        Refusal("not allowed", 403, "NU-9603"),
        Refusal("led elsewhere", 302, "NU-9603"),
        Refusal("led elsewhere with all of it", 307, "NU-9603"),
    ],
    ids=lambda row: row.name,
)
def test_only_2xx_counts_as_delivered(site: TrialSite, row: Refusal) -> None:
    with hook_server() as hook:
        hook.status = row.status
        by_hook(site, f"http://127.0.0.1:{hook.port}/x")
        assert send(site, order("webhook", UPGRADED)) == row.code
        assert len(hook.posts) == 1


def test_webhook_with_an_untrusted_certificate_gets_nothing(
    site: TrialSite, authority: Authority, tmp_path: Path
) -> None:
    other = Authority(tmp_path / "other", "other")
    with hook_server(other.server_context(other.certify("hook"))) as hook:
        by_hook(site, f"https://127.0.0.1:{hook.port}/x", ca=authority.file)
        assert send(site, order("webhook", UPGRADED)) == "NU-9605"
        assert not hook.posts


@pytest.mark.parametrize("url", ["https://a..b/hook", "https://agent:%C4%8D@127.0.0.1:9/hook"])
def test_address_that_cannot_be_called_is_reported(site: TrialSite, url: str) -> None:
    by_hook(site, url)
    assert send(site, order("webhook", UPGRADED)) == "NU-9602"


def test_silent_webhook_receiver_times_out(site: TrialSite) -> None:
    with hook_server() as hook:
        hook.silent = True
        by_hook(site, f"http://127.0.0.1:{hook.port}/x")
        # The limit of the whole, which holds too where each byte comes in time.
        assert send_by_process(site, order("webhook", UPGRADED), limit_s=1.5) == "NU-9601"
    assert send_by_process(site, order("webhook", UPGRADED)) == "NU-9602"


@pytest.mark.parametrize(
    ("secret", "mode", "code"), [(SECRET, 0o640, "NU-9609"), ("short", 0o600, "NU-9608")]
)
def test_invalid_webhook_secret_sends_nothing(
    site: TrialSite, secret: str, mode: int, code: str
) -> None:
    with hook_server() as hook:
        by_hook(site, f"http://127.0.0.1:{hook.port}/x", mode=mode, secret=secret)
        assert send(site, order("webhook", UPGRADED)) == code
        (site.root / "secret").unlink()
        assert send(site, order("webhook", UPGRADED)) == "NU-9608"
    assert not hook.posts


def test_systemd_credential_provides_the_webhook_secret(
    site: TrialSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = site.root / "credentials"
    place.mkdir()
    (place / "hook").write_text(SECRET)
    with hook_server() as hook:
        url = f"http://127.0.0.1:{hook.port}/x"
        configure(site, f'[notify.webhook]\nurl = "{url}"\nsecret_credential = "hook"\n')
        assert send(site, order("webhook", UPGRADED)) == "NU-9608"
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(place))
        assert send(site, order("webhook", UPGRADED)) is None
    assert len(hook.posts) == 1


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"channel": "mail", "id": "x", "dropped": 0, "chain_head": "", "notifications": []},
        {
            "channel": "pigeon",
            "id": "x",
            "dropped": 0,
            "chain_head": "",
            "notifications": [UPGRADED.to_json()],
        },
        {
            "channel": "mail",
            "id": "x",
            "dropped": 0,
            "chain_head": "",
            "notifications": [{"kind": "gossip"}],
        },
    ],
)
def test_invalid_send_request_is_refused(site: TrialSite, bad: dict[str, object]) -> None:
    told = send(site, bad) if bad else send_by_process(site, bad)
    assert told == "NU-9601"


# ---- by a unit of systemd ------------------------------------------------------------------------

needs_activator = pytest.mark.skipif(
    ACTIVATOR is None, reason="systemd-socket-activate is not installed"
)


def send_by_unit(path: Path, limit_s: float = 60) -> Sender:
    return create_sender(path.parent / "agent.toml", path, limit_s)


def words(site: TrialSite) -> list[str]:
    return [
        sys.executable,
        "-I",
        "-m",
        "ncen_updater.agent.service.notifications.send_worker",
        str(site.config),
    ]


def in_units(site: TrialSite, path: Path) -> None:
    table = f'[service]\nrunner = "systemd"\nsend_socket = "{path}"\n'
    site.config.write_text(site.config.read_text("utf-8") + table)


@needs_activator
def test_send_unit_reports_the_result(site: TrialSite, tmp_path: Path) -> None:
    path = tmp_path / "send.sock"
    with mail_server() as box:
        by_mail(site, box.port)
        with activated(path, words(site), tmp_path / "unit.log"):
            assert send_by_unit(path)(order("mail", UPGRADED)) is None
            assert send_by_unit(path)({"channel": "pigeon"}) == "NU-9601"
    assert len(box.mails) == 1
    with activated(path, words(site), tmp_path / "unit.log"):
        assert send_by_unit(path)(order("mail", UPGRADED)) == "NU-9602"


@needs_activator
def test_send_unit_without_an_answer_is_not_awaited(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "send.sock"
    with activated(path, ["sleep", "1000"], tmp_path / "unit.log"):
        assert send_by_unit(path, limit_s=0.5)(order("mail", UPGRADED)) == "NU-9601"
    assert "not delivered: not in time" in caplog.text


@needs_activator
def test_send_unit_ends_with_its_caller(site: TrialSite, tmp_path: Path) -> None:
    """The delivery could not be recorded."""
    path = tmp_path / "send.sock"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        by_mail(site, silent.getsockname()[1])
        with activated(path, words(site), tmp_path / "unit.log"):
            with socket.socket(socket.AF_UNIX) as asker:
                asker.connect(str(path))
                asker.sendall(json.dumps(order("mail", UPGRADED)).encode() + b"\n")
                connection, _ = silent.accept()
            with connection:
                connection.settimeout(20)
                assert connection.recv(1) == b""


def test_systemd_site_sends_through_its_unit(
    site: TrialSite, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "send.sock"
    with mail_server() as box:
        by_mail(site, box.port)
        in_units(site, path)
        send = create_sender(site.config, find_send_socket(load_config(site.config)))
        assert send(order("mail", UPGRADED)) == "NU-9601"
    assert not box.mails
    assert "ncen-updater-send.socket" in caplog.text
