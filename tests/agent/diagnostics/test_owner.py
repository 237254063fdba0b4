"""An owner of the databases that is misspelt: told as that, once, whatever follows from it."""

from __future__ import annotations

from ncen_updater.agent.diagnostics.doctor import diagnose
from ncen_updater.common.findings import Severity
from ncen_updater.common.progress import Silent
from tests.faults.full import prepared


def test_an_owner_that_the_server_does_not_know() -> None:
    with prepared("postgresql") as trial:
        trial.reset()
        config = trial.demo.config_path
        lines = config.read_text().splitlines()
        lines = ['owner = "ownner"' if line.startswith("owner =") else line for line in lines]
        assert 'owner = "ownner"' in lines
        config.write_text("\n".join(lines))
        found = [one for one in diagnose(config, Silent()) if one.severity is Severity.STRICT]
    assert [one.code for one in found] == ["NU-4136"]
    assert "ownner" in str(found[0].what)
    assert 'Correct "owner" in [databases.postgresql].' in str(found[0].remedy)
