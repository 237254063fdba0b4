"""Real containers, where this machine can run any; where it cannot, why not."""

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
#: podman reads the file that this variable names after all others.
OVERRIDE = "CONTAINERS_CONF_OVERRIDE"
#: By the name of an OCI runtime. runc cannot do without groups of processes, which podman's
#: example turns off; crun refuses those of some machines, such as ones within a container.
SETTINGS = {
    "crun": '[containers]\ncgroups = "disabled"\n[engine]\nruntime = "crun"\n',
    "runc": '[containers]\ncgroups = "enabled"\n[engine]\nruntime = "runc"\n',
}


def podman_settings() -> str:
    """Settings with which podman runs a container here; skips where none work."""
    found, reason = _settings()
    if not found:
        pytest.skip(f"{reason}; {INSTALL}")
    return found


@functools.cache
def _settings() -> tuple[str, str]:
    """The settings, or why there are none."""
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
    """All variables of a podman that keeps everything in a directory.

    Args:
        place: The directory.
        settings: Of :func:`podman_settings`.
    """
    override = place / "containers.conf"
    override.write_text(settings + 'lock_type = "file"\n', "utf-8")
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(place), "XDG_RUNTIME_DIR": str(place),
        "PODMAN_IGNORE_CGROUPSV1_WARNING": "1", OVERRIDE: str(override),
    }  # fmt: skip


def forget(place: Path) -> None:
    """End the processes that podman leaves for its next call, so that a directory can be removed.

    Args:
        place: As for :func:`environment_in`, or ``RUN`` and ``STORE`` of the example are below it.
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
    """Podman's helper processes in this directory: cleanup, and waiting for the next container."""
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
    """The root file system of a container, also for users who may not write there.

    Args:
        place: Made in this directory.
        programs: Of busybox.
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
    """Podman with everything that it keeps in a directory."""
    return [str(PODMAN), "--root", str(place / "images"), "--runroot", str(place / "run"),
            "--tmpdir", str(place / "tmp")]  # fmt: skip
