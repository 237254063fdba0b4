"""Tests of the parts of the configuration that an approval is bound to."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ncen_updater.agent.config.loader import load_config
from ncen_updater.agent.engine.approvals.approval_status import compute_configuration_digest
from ncen_updater.agent.engine.site import Site

EXAMPLE = Path(__file__).parents[4] / "packaging/agent.toml.example"


def digest(directory: Path, *more: tuple[str, str]) -> str:
    text = EXAMPLE.read_text("utf-8").replace("run/ncen/", "run/")  # which is there
    for heading, line in more:
        text = text.replace(heading, f"{heading}\n{line}", 1)
    path = directory / "agent.toml"
    path.write_text(text)
    site: Any = SimpleNamespace(config=load_config(path))
    return compute_configuration_digest(cast("Site", site))


def test_contact_does_not_void_an_approval(tmp_path: Path) -> None:
    contact = ("[site]", 'contact = "Secretariat, +32 2 000 00 00"')
    assert digest(tmp_path, contact) == digest(tmp_path)


@pytest.mark.parametrize(
    ("table", "line"),
    [("[application]", 'public_url = "http://127.0.0.1:8080"'), ("[application]", 'user = "ncen"'),
     ("[application]", "version_pattern = '(.+)'"),
     ("[application]", 'version_command = ["/usr/local/sbin/ncen-ctl", "version"]'),
     ("[application]", 'health_headers = { X-Forwarded-Proto = "https" }'),
     ("[application]", 'health_token_file = "etc/ncen-updater/health-token"'),
     ("[application]", 'health_token_file = "etc/t"\nhealth_token_scheme = "Token"'),
     ("[site]", 'channel = "preview"')],
)  # fmt: skip
def test_relevant_settings_void_an_approval(tmp_path: Path, table: str, line: str) -> None:
    assert digest(tmp_path, (table, line)) != digest(tmp_path)
