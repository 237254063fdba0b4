"""Tests of the files that remain after removal of the package, by the script that dpkg runs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ncen_updater.agent.model.event_names import CHANGE_LOCK_FILE
from ncen_updater.feed.trust_state import TRUST_STATE_NAME

PACKAGING = Path(__file__).resolve().parents[2] / "packaging"
#: What can be enabled; what only a socket starts cannot.
UNITS = sorted(
    path.name
    for path in (PACKAGING / "systemd").iterdir()
    if path.suffix in (".socket", ".service") and "[Install]" in path.read_text("utf-8")
)


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("named", [True, False])
def test_enabled_units_are_enabled_again_after_reinstallation(
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
    # A site whose application has another name declared it in a drop-in, and enabled it again.
    link = tmp_path / "etc/systemd/system/other.service.requires" / UNITS[-1]
    link.parent.mkdir(parents=True)
    if named:
        link.symlink_to(f"/no/more/{UNITS[-1]}")
    _run(tmp_path, "remove")
    said = calls.read_text().splitlines()
    for unit in UNITS:
        # Without the second, Debian's helper takes it for one that a person disabled.
        again = enabled or (named and unit == UNITS[-1])
        assert [line for line in said if line.endswith(f" {unit}")] == (
            [f"disable {unit}", f"purge {unit}"] if again else [f"disable {unit}"]
        )
    assert not link.is_symlink(), "the application would wait for a unit that is no more"


def test_purge_explains_how_to_remove_the_journal(tmp_path: Path) -> None:
    """Seen: "NCEN_PURGE_JOURNAL=yes dpkg --purge ncen-updater", which dpkg no longer knows then."""
    state, settings = tmp_path / "var/lib/ncen-updater", tmp_path / "etc/ncen-updater"
    for place in (state, settings):
        place.mkdir(parents=True)
    (state / "journal.sqlite").touch()
    (settings / "agent.toml").touch()
    said = _run(tmp_path, "purge")
    assert (state / "journal.sqlite").exists() and settings.exists()
    (line,) = [line for line in said.splitlines() if "to delete it" in line]
    assert line.endswith(f": sudo rm -r {state} {settings}")
    assert "dpkg" not in said


def test_purge_of_an_unadopted_site_leaves_nothing(tmp_path: Path) -> None:
    """What ``tmpfiles.d`` made, users and groups; Debian's programs are stand-ins."""
    settings = (PACKAGING / "systemd/ncen-updater.tmpfiles").read_text("utf-8")
    made = [line.split()[1] for line in settings.splitlines() if line.startswith("d ")]
    assert {"/run/ncen", "/var/lib/ncen-updater/inbox"} <= set(made)
    for place in made:
        (tmp_path / place[1:]).mkdir(parents=True, exist_ok=True)
    # What the agent writes before a site is adopted.
    for file in (
        "received/x/y", "checked/config-valid.toml", "service/x", "setup/x", CHANGE_LOCK_FILE,
        TRUST_STATE_NAME,
    ):  # fmt: skip
        path = tmp_path / "var/lib/ncen-updater" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for name in ("userdel", "groupdel"):
        (tmp_path / name).write_text(f"#!/bin/sh\necho {name} $1 >> {tmp_path}/gone\n")
        (tmp_path / name).chmod(0o755)
    _run(tmp_path, "remove")
    _run(tmp_path, "purge")
    for place in ("var/lib", "etc", "opt", "run"):
        assert list((tmp_path / place).iterdir()) == [], place
    made = (PACKAGING / "systemd/ncen-updater.sysusers").read_text("utf-8").splitlines()
    users = {line.split()[1] for line in made if line.startswith("u ")}
    groups = {line.split()[1] for line in made if line.startswith("g ")}
    gone = (tmp_path / "gone").read_text().splitlines()
    assert set(gone) == {f"userdel {u}" for u in users} | {f"groupdel {g}" for g in groups}


@pytest.mark.parametrize(
    "left",
    [
        None,
        "etc/ncen-publisher/keys/snapshot.pem",
        "srv/ncen-feed/metadata/1.root.json",
        "var/lib/ncen-publisher/fleet.db",
        "etc/systemd/system/ncen-publisher-refresh.service.d/feed.conf",
    ],
)
def test_user_of_the_publisher_goes_where_nothing_of_it_stays(
    tmp_path: Path, left: str | None
) -> None:
    for place in ("etc/ncen-publisher/keys", "var/lib/ncen-publisher"):
        (tmp_path / place).mkdir(parents=True)
    if left is not None:
        (tmp_path / left).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / left).touch()
    (tmp_path / "userdel").write_text(f"#!/bin/sh\necho $1 >> {tmp_path}/gone\n")
    (tmp_path / "userdel").chmod(0o755)
    said = _run(tmp_path, "remove", "publisher/postrm", PLACES_OF_THE_PUBLISHER)
    assert said == "" and not (tmp_path / "gone").exists()
    said = _run(tmp_path, "purge", "publisher/postrm", PLACES_OF_THE_PUBLISHER)
    assert (tmp_path / "gone").exists() is (left is None)
    if left is None:
        assert said == ""
    else:
        assert (tmp_path / left).exists()
        (line,) = [line for line in said.splitlines() if "to delete them" in line]
        named = line.split("rm -r ")[1].removesuffix("; sudo userdel ncen-publisher").split()
        assert any((tmp_path / left).is_relative_to(place) for place in named)


PLACES = (
    "/opt/ncen-updater", "/var/lib/ncen-updater", "/run/systemd/system", "/etc/systemd/system",
    "/etc/ncen-updater", "/opt/ncen/slots", "/opt/ncen ", "/run/ncen-updater", "/run/ncen;",
)  # fmt: skip
PLACES_OF_THE_PUBLISHER = (
    "/etc/systemd/system", "/run/systemd/system", "/etc/ncen-publisher", "/var/lib/ncen-publisher",
    "/srv/ncen-feed",
)  # fmt: skip


def _run(
    root: Path, act: str, script_name: str = "postrm", places: tuple[str, ...] = PLACES
) -> str:
    """Run the script with its places below a directory; returns what it says."""
    text = (PACKAGING / "debian" / script_name).read_text("utf-8")
    for place in places:
        assert place in text
        text = text.replace(place, f"{root}{place}")
    helper = root / "deb-systemd-helper"
    if not helper.exists():
        helper.write_text("#!/bin/sh\n")
        helper.chmod(0o755)
    script = root / "postrm"
    script.write_text(text)
    return subprocess.run(
        ["/bin/sh", str(script), act], check=True, env={"PATH": f"{root}:/usr/bin:/bin"},
        stderr=subprocess.PIPE, text=True,
    ).stderr  # fmt: skip
