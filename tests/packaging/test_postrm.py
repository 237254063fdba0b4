"""What the package leaves behind when it goes, by the script that dpkg runs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

PACKAGING = Path(__file__).resolve().parents[2] / "packaging"
#: What can be enabled; what only a socket starts cannot.
UNITS = sorted(
    path.name
    for path in (PACKAGING / "systemd").iterdir()
    if path.suffix in (".socket", ".service") and "[Install]" in path.read_text("utf-8")
)


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("named", [True, False])
def test_what_was_enabled_is_so_again_when_the_package_comes_back(
    tmp_path: Path, enabled: bool, named: bool
) -> None:
    """A stand-in for Debian's helper says what it is asked; what a person disabled stays so."""
    calls = tmp_path / "calls"
    helper = tmp_path / "deb-systemd-helper"
    helper.write_text(
        f'#!/bin/sh\nif [ "$2" = was-enabled ]; then exit {0 if enabled else 1}; fi\n'
        f'echo "$@" >> {calls}\n'
    )
    helper.chmod(0o755)
    calls.touch()
    # A site whose application has another name said so in an addition, and enabled it anew.
    link = tmp_path / "etc/systemd/system/other.service.requires" / UNITS[-1]
    link.parent.mkdir(parents=True)
    if named:
        link.symlink_to(f"/no/more/{UNITS[-1]}")
    text = (PACKAGING / "debian" / "postrm").read_text("utf-8")
    for place in (
        "/opt/ncen-updater", "/var/lib/ncen-updater", "/run/systemd/system", "/etc/systemd/system",
    ):  # fmt: skip
        assert place in text
        text = text.replace(place, f"{tmp_path}{place}")
    script = tmp_path / "postrm"
    script.write_text(text)
    subprocess.run(
        ["/bin/sh", str(script), "remove"], check=True, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}
    )
    said = calls.read_text().splitlines()
    for unit in UNITS:
        # Without the second, Debian's helper takes it for one that a person disabled.
        again = enabled or (named and unit == UNITS[-1])
        assert [line for line in said if line.endswith(f" {unit}")] == (
            [f"disable {unit}", f"purge {unit}"] if again else [f"disable {unit}"]
        )
    assert not link.is_symlink(), "the application would wait for a unit that is no more"
