"""Which slots the package keeps, by the script that dpkg runs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ncen_updater.agent.self_update.agent_selection import AgentSelection, SequenceFile, TrialState

SCRIPT = Path(__file__).resolve().parents[2] / "packaging" / "debian" / "postinst"
NOTHING = "#!/bin/sh\nexit 0\n"


@pytest.mark.parametrize(
    ("state", "kept"),
    [(TrialState.TRYING, {"0.1.0", "0.2.0", "0.3.0"}), (TrialState.GOOD, {"0.2.0", "0.3.0"})],
)
def test_the_agent_that_was_proven_stays_while_a_newer_one_is_on_trial(
    tmp_path: Path, state: TrialState, kept: set[str]
) -> None:
    """Agent 0.2.0 came over 0.1.0, and now comes 0.3.0. The programs around it are stand-ins."""
    slots = tmp_path / "opt/ncen-updater"
    for place in ("0.1.0", ".kept-0.2.0", "0.3.0"):
        (slots / place / "bin").mkdir(parents=True)
        for name in ("ncen-updater", "python"):
            (slots / place / "bin" / name).write_text(NOTHING)
            (slots / place / "bin" / name).chmod(0o755)
    (slots / "0.1.0/.kept").touch()
    (slots / "failsafe.py").touch()  # as a power cut left it
    (slots / "0.3.0/failsafe.py").write_text("whole")
    SequenceFile(slots).update(lambda _: AgentSelection("0.2.0", "0.1.0", state))
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("systemd-sysusers", "systemd-tmpfiles", "deb-systemd-helper"):
        (programs / name).write_text(NOTHING)
        (programs / name).chmod(0o755)
    text = SCRIPT.read_text("utf-8").replace("@VERSION@", "0.3.0")
    for place in ("/opt/ncen-updater", "/run/systemd/system"):
        assert place in text
        text = text.replace(place, f"{tmp_path}{place}")
    script = tmp_path / "postinst"
    script.write_text(text)
    subprocess.run(
        ["/bin/sh", str(script), "configure", "0.2.0"],
        check=True,
        env={"PATH": f"{programs}:/usr/bin:/bin"},
    )
    assert (slots / "failsafe.py").read_text() == "whole"
    assert {path.parents[1].name for path in slots.glob("*/bin/ncen-updater")} == kept
