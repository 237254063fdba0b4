"""Tests of times that users type, in the site's timezone."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pytest

from ncen_updater.agent.cli.hold import parse_future_time
from ncen_updater.agent.cli.local_client import LocalSiteClient
from ncen_updater.agent.cli.main import run
from ncen_updater.agent.cli.service_client import ServiceSiteClient
from ncen_updater.agent.cli.session import AgentSession
from ncen_updater.agent.config.errors import InvalidConfigError
from ncen_updater.agent.config.essential_settings import read_site_timezone
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.site_history import SiteHistory
from ncen_updater.common.cli.program import show_error
from ncen_updater.common.json_records import to_json_value
from ncen_updater.common.labels import format_hold
from ncen_updater.common.messages import BAD_TIME, HELD, TIME_PASSED, ErrorMessage
from tests.agent.cli.site import make_site
from tests.support.errors import refused

NOW = datetime(2026, 11, 24, tzinfo=UTC)
MAURITIUS = ZoneInfo("Indian/Mauritius")  # four hours before UTC, all the year
PARIS = ZoneInfo("Europe/Paris")


@pytest.mark.parametrize(
    ("text", "zone", "moment"),
    [
        ("2026-12-05T23:00", MAURITIUS, datetime(2026, 12, 5, 19, tzinfo=UTC)),
        ("2026-12-05", MAURITIUS, datetime(2026, 12, 4, 20, tzinfo=UTC)),
        ("2026-12-05T23:00Z", MAURITIUS, datetime(2026, 12, 5, 23, tzinfo=UTC)),
        ("2026-12-05T23:00+01:00", MAURITIUS, datetime(2026, 12, 5, 22, tzinfo=UTC)),
        ("2027-03-28T02:30", PARIS, datetime(2027, 3, 28, 1, 30, tzinfo=UTC)),  # is skipped there
        ("2027-10-31T02:30", PARIS, datetime(2027, 10, 31, 0, 30, tzinfo=UTC)),  # its first passage
    ],
)
def test_future_times_are_parsed(text: str, zone: ZoneInfo, moment: datetime) -> None:
    assert parse_future_time(text, NOW, zone) == moment


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2026-11-24T03:59", TIME_PASSED),
        ("2020-01-01", TIME_PASSED),
        ("0001-01-01", BAD_TIME),
        ("9999-12-31T23:59-23:00", BAD_TIME),
        ("9999-12-31", BAD_TIME),  # no zone east of Greenwich could show it, no delay be added
        ("tonight", BAD_TIME),
    ],
)
def test_invalid_times_are_rejected(text: str, message: ErrorMessage) -> None:
    """Seen: "tonight" is "not a time in the future", and in French a date that nobody typed."""
    with refused(message) as error:
        parse_future_time(text, NOW, MAURITIUS)
    assert f"« {text} »" in error.value.title_text.render("fr")


def test_site_timezone_is_read_and_validated(tmp_path: Path) -> None:
    site = make_site(tmp_path / "site")
    assert read_site_timezone(site.config) is None
    text = site.config.read_text()
    assert "[service]" not in text
    site.config.write_text(f'{text}\n[service]\ntimezone = "Indian/Mauritius"\n')
    assert read_site_timezone(site.config) == MAURITIUS
    for wrong in ('"Mars/North"', '"../../etc/passwd"', "7"):
        site.config.write_text(f"{text}\n[service]\ntimezone = {wrong}\n")
        with pytest.raises(InvalidConfigError, match=r"service\.timezone"):
            read_site_timezone(site.config)


@pytest.mark.parametrize(
    ("hops", "named"),
    [
        (["3.3.0"], ["Next upgrade: 3.3.0"]),
        (["3.3.10", "3.4.0"], ["Next upgrade: 3.3.10, then 3.4.0"]),
        ([], []),
    ],
)
def test_upgrade_after_a_hold_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    hops: list[str],
    named: list[str],
) -> None:
    """Seen: "Suspensions levées : 1. Elle commence le samedi ...", as if the hold began."""
    begins = {"kind": "now", "at": None, "wait_reason": None, "missing_approvals": 0}
    client = SimpleNamespace(lift_holds=lambda: 1, read_next_upgrade_summary=lambda: (hops, begins))
    monkeypatch.setattr(AgentSession, "get_client", lambda _: client)
    assert run(["--config", str(make_site(tmp_path).config), "unhold"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "Removed: 1 hold",
        *named,
        "The upgrade starts immediately.",
    ]


def test_hold_shows_the_recorded_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seen: a second before the time in ``status``."""
    site = make_site(tmp_path)
    recorded = datetime(2031, 1, 2, 3, 4, 5, tzinfo=UTC)
    monkeypatch.setattr(Journal, "read_time", lambda _: recorded)
    shown = "2031-01-02 03:04:05 UTC"
    for command in (("hold", "--reason", "fair"), ("status",)):
        assert run(["--config", str(site.config), *command]) == 0
        assert f"Upgrades on hold since {shown} by " in capsys.readouterr().out
    assert run(["--config", str(site.config), "upgrade"]) == HELD.exit_code
    assert f"Upgrades on hold since {shown} by " in capsys.readouterr().err.replace("\n", " ")


def test_status_shows_the_end_of_a_hold_like_the_refused_upgrade() -> None:
    hold = {"since": "2031-01-09T08:15:02+00:00", "until": "2031-02-01T18:00:00+00:00"}
    shown = str(format_hold({**hold, "actor": "dana", "reason": "fair"}, UTC))
    assert shown == (
        "Upgrades on hold since 2031-01-09 08:15:02 UTC until 2031-02-01 18:00 UTC by dana: fair"
    )


@pytest.mark.parametrize(
    ("ends", "language", "lines"),
    [
        (
            ["2031-01-10T00:00", "2031-02-01T18:00", "2031-01-20T00:00"],
            "en",
            (
                "Detail:     End of the hold: 2031-02-01 18:00 UTC",
                "What to do: Once the reason no longer applies, run: ncen-updater unhold",
            ),
        ),
        (
            ["2031-01-10T00:00"],
            "fr",
            (
                "Détail :  Fin de la suspension : 10/01/2031 à 00:00 UTC",
                "À faire : Quand le motif n'est plus valable, exécutez : ncen-updater unhold",
            ),
        ),
        (["2031-01-10T00:00", None], "en", ("Detail:     The hold has no end date.",)),
        ([None], "fr", ("Détail :  La suspension n'a pas de date de fin.",)),
    ],
)
@pytest.mark.parametrize("served", [False, True])
def test_refused_upgrade_shows_when_the_hold_ends(
    served: bool,
    ends: list[str | None],
    language: str,
    lines: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Seen: no word of the end, and of several holds the one that ends first."""
    site = make_site(tmp_path)
    for end in ends:
        with Journal.open(site.journal) as journal:
            until = None if end is None else datetime.fromisoformat(f"{end}+00:00")
            SiteHistory(journal).add_hold("fair", "dana", until)
    session = AgentSession("ncen-updater", site.config)
    client: LocalSiteClient | ServiceSiteClient = LocalSiteClient(session)
    if served:
        with Journal.open(site.journal) as journal:
            holds = to_json_value(SiteHistory(journal).list_active_holds(NOW))
        status = {"journal": {"holds": holds}}
        client = ServiceSiteClient(session, SimpleNamespace(call=lambda *_: status))  # type: ignore[arg-type]
    with refused(HELD) as caught:
        client.require_startable()
    session.language = language
    show_error(session, caught.value, lambda _: [])
    shown = capsys.readouterr().err.replace("\N{NO-BREAK SPACE}", " ").splitlines()
    assert all(line in shown for line in lines), shown
