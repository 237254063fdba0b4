"""Real containers, if this machine can run any; otherwise the reason."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PODMAN = Path("/usr/bin/podman")
BUSYBOX = Path("/bin/busybox")
INSTALL = "apt-get install podman crun uidmap busybox-static postgresql-client"
#: podman reads the file named by this variable after all other configuration files.
OVERRIDE = "CONTAINERS_CONF_OVERRIDE"
#: Settings by OCI runtime. runc requires cgroups, which podman's example disables; crun fails with
#: those of some machines, for example inside a container.
SETTINGS = {
    "crun": '[containers]\ncgroups = "disabled"\n[engine]\nruntime = "crun"\n',
    "runc": '[containers]\ncgroups = "enabled"\n[engine]\nruntime = "runc"\n',
}


def podman_settings() -> str:
    """Return settings with which podman runs a container here; skip the test if none work."""
    found, reason = _settings()
    if not found:
        pytest.skip(f"{reason}; {INSTALL}")
    return found


@functools.cache
def _settings() -> tuple[str, str]:
    """Return the settings, or the reason why none work."""
    missing = [str(path) for path in (PODMAN, BUSYBOX) if not path.exists()]
    if missing:
        return "", f"{', '.join(missing)}: not here"
    said = ""
    for settings in SETTINGS.values():
        with _place(settings) as (place, environment):
            words = [*stored(place), "run", "--rm", "--network=host", "--rootfs",
                     str(rootfs(place, "true")), "/bin/true"]  # fmt: skip
            try:
                subprocess.run(words, env=environment, capture_output=True, check=True, timeout=60)
            except subprocess.CalledProcessError as error:
                said = error.stderr.decode(errors="replace").strip()[-300:]
            except subprocess.TimeoutExpired:
                said = "it gave no answer within a minute"
            else:
                return settings, ""
    return "", f"podman runs nothing here: {said}"


@contextmanager
def _place(settings: str) -> Iterator[tuple[Path, dict[str, str]]]:
    with tempfile.TemporaryDirectory(prefix="nu-test-") as directory:
        place = Path(directory)
        try:
            yield place, environment_in(place, settings)
        finally:
            forget(place)


def environment_in(place: Path, settings: str) -> dict[str, str]:
    """Return the environment of a podman that stores all data in one directory.

    Args:
        place: The directory.
        settings: Settings from :func:`podman_settings`.
    """
    override = place / "containers.conf"
    override.write_text(settings + 'lock_type = "file"\n', "utf-8")
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(place), "XDG_RUNTIME_DIR": str(place),
        "PODMAN_IGNORE_CGROUPSV1_WARNING": "1", OVERRIDE: str(override),
    }  # fmt: skip


def forget(place: Path) -> None:
    """End the background processes of podman, so that its directory can be removed.

    Args:
        place: As for :func:`environment_in`, or the parent of ``RUN`` and ``STORE`` of the example.
    """
    while found := _podmans(place):
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    if os.geteuid() == 0:
        mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for point in reversed([one for one in mounted if one.startswith(f"{place}/")]):
            subprocess.run(["umount", "--lazy", point], check=False)
    for directory, names, _ in os.walk(place):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                if not (path := Path(directory, name)).is_symlink():
                    path.chmod(0o700)


def _podmans(place: Path) -> list[int]:
    """Return podman's background processes in this directory: cleanup and pause."""
    told = re.compile(rb"(^|\0)XDG_RUNTIME_DIR=" + re.escape(os.fsencode(place)) + rb"(/[^\0]*)?\0")
    found = []
    for one in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            program = (one / "comm").read_text().split()[0]
            if program in ("podman", "conmon", "exe") and told.search(
                (one / "environ").read_bytes()
            ):
                found.append(int(one.name))
    return found


def rootfs(place: Path, *programs: str) -> Path:
    """Create the root file system of a container, also for users who may not write to it.

    Args:
        place: Parent directory.
        programs: Programs of busybox.
    """
    root = place / "rootfs"
    for name in ("bin", "dev", "etc", "proc", "run", "sys", "tmp", "var/tmp"):
        (root / name).mkdir(parents=True)
    for name in ("hosts", "resolv.conf", "hostname"):
        (root / "etc" / name).touch()
    (root / "etc/mtab").symlink_to("/proc/mounts")
    shutil.copy(BUSYBOX, root / "bin/busybox")
    for name in programs:
        (root / "bin" / name).symlink_to("busybox")
    return root


def stored(place: Path) -> list[str]:
    """Return the podman command line that stores all data in one directory."""
    return [str(PODMAN), "--root", str(place / "images"), "--runroot", str(place / "run"),
            "--tmpdir", str(place / "tmp")]  # fmt: skip
