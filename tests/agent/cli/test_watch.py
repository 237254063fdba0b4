"""``watch`` shows people what ``upgrade`` shows; the events of the journal only where asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from ncen_updater.agent.cli import watch
from ncen_updater.agent.cli.main import run
from ncen_updater.agent.service.client import StreamEvent
from tests.agent.cli.site import make_site

ENDED = StreamEvent(
    "step-intended", {"number": 7, "at": None, "change": None, "data": {"step": "fence"}}
)


@pytest.mark.parametrize(
    ("options", "written"), [((), False), (("--events",), True), (("--json",), True)]
)
def test_events_are_written_where_they_are_asked_for(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    written: bool,
) -> None:
    site = make_site(tmp_path / "site")
    monkeypatch.setattr(watch, "require_service", lambda _session: None)
    monkeypatch.setattr(watch, "_events", lambda *_, **__: iter([ENDED]))
    assert run(["--config", str(site.config), "watch", *options]) == 0
    assert ("step-intended" in capsys.readouterr().out) is written
