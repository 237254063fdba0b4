"""A Debian system, booted by its own systemd in separate namespaces."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

#: Mounts the file systems of a container. Arguments: the tree, the image of a small disk, the
#: shared directory.
TREE = r"""
root=$0 disk=$1 shared=$2
mount --bind "$root" "$root"
mkdir -p "$root/pkg" "$root/opt/ncen-updater"
mount --bind "$shared" "$root/pkg"
mount -o loop "$disk" "$root/opt/ncen-updater"
"""
#: Run in the new namespaces after the root is mounted. Kernel settings are those of this machine,
#: and must not be changed.
BOOT = r"""
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 dev "$root/dev"
# Each start is one of its own, as of a machine with a kernel of its own.
cat /proc/sys/kernel/random/uuid > "$root/dev/.boot"
mount --bind "$root/dev/.boot" "$root/proc/sys/kernel/random/boot_id"
for name in null zero full random urandom tty; do
  touch "$root/dev/$name"
  mount --bind "/dev/$name" "$root/dev/$name"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs -o mode=755 run "$root/run"
mount -t tmpfs tmp "$root/tmp"
hostname ncen-site
ip link set lo up
cd "$root"
mkdir -p old
pivot_root . old
umount -l /old
mount --make-rshared /
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  /usr/lib/systemd/systemd --log-target=journal --show-status=no --unit=multi-user.target
"""
PATIENCE_S = 120.0
BOOT_S = 600.0
T = TypeVar("T")


def wait_for(look: Callable[[], T | None], seconds: float = PATIENCE_S) -> T | None:
    """Call a function until it returns a value; return None after the time limit."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = look()
        if found is not None:
            return found
        time.sleep(0.2)
    return None


class Container:
    """A machine.

    Args:
        mounts: Shell script that mounts the system at ``$root``.
        arguments: Its arguments, from ``$0`` on.
    """

    def __init__(self, mounts: str, *arguments: str | Path) -> None:
        self._mounts, self._arguments = mounts, [str(argument) for argument in arguments]
        self._group = _unified() / f"ncen-trial-{os.getpid()}-{secrets.token_hex(4)}"
        self._process: subprocess.Popen[bytes] | None = None
        self._first = 0

    @property
    def first(self) -> int:
        """Return the PID of its process 1 on the host."""
        return self._first

    def boot(self) -> None:
        """Start it, and wait until it is up.

        Raises:
            RuntimeError: If it does not come up.
        """
        self.start()
        if wait_for(self.up, BOOT_S) is None:
            raise RuntimeError("the container does not come up")

    def start(self) -> None:
        """Start it, and wait only for its first process.

        Raises:
            RuntimeError: If it ends at once.
        """
        self._group.mkdir(exist_ok=True)
        spaces = ("--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup")
        script = f"set -e\nmount --make-rprivate /\n{self._mounts}{BOOT}"
        inside = ["sh", "-c", script, *self._arguments]
        # Enter the group first: the new namespace sees it as the root of all groups.
        enter = f'echo 0 > {self._group}/cgroup.procs && exec "$@"'
        self._process = subprocess.Popen(
            ["sh", "-c", enter, "sh", "unshare", *spaces, "--fork", "--kill-child", *inside],
            stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        if wait_for(self._born) is None:
            raise RuntimeError("the container does not begin")

    def _born(self) -> bool | None:
        process = self._process
        if process is None or process.poll() is not None:
            raise RuntimeError("the container ended")
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        if not children:
            return None
        self._first = int(children[0])
        return True

    def up(self) -> bool | None:
        """Return True once the units are up, None before.

        Raises:
            RuntimeError: If the container has ended.
        """
        if self._process is None or self._process.poll() is not None:
            raise RuntimeError("the container ended")
        said = self.run("systemctl", "is-system-running").stdout.strip()
        # A container has no modules to load; systemd counts that as a failed unit.
        return True if said in ("running", "degraded") else None

    def cut(self) -> None:
        """Cut its power: every process dies at once."""
        if self._process is not None:
            os.kill(self._first, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def wait(self, seconds: float) -> None:
        """Wait until it has ended on its own.

        Raises:
            subprocess.TimeoutExpired: If it does not.
        """
        if self._process is not None:
            self._process.wait(seconds)
            self._process = None

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command inside."""
        spaces = ("--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup", "--root", "--wd")
        variables = ("PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=/root")
        return subprocess.run(
            ["nsenter", f"--target={self._first}", *spaces, "env", "-i", *variables, *words],
            capture_output=True, text=True, errors="replace", check=False, timeout=600,
        )  # fmt: skip

    def must(self, *words: str) -> str:
        """Run a command that must succeed; return its output.

        Raises:
            RuntimeError: If it fails.
        """
        ended = self.run(*words)
        if ended.returncode != 0:
            raise RuntimeError(f"{' '.join(words)}: {ended.stdout}{ended.stderr}")
        return ended.stdout

    def close(self) -> None:
        """Stop it, and remove everything that it left."""
        self.cut()
        if self._group.is_dir():
            wait_for(lambda: True if _empty(self._group) else None)
            for group in sorted(self._group.glob("**/"), reverse=True):
                group.rmdir()


def _empty(group: Path) -> bool:
    return not any(path.read_text() for path in group.rglob("cgroup.procs"))


def _unified() -> Path:
    """Return the mount point of the control groups, version 2."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(place)
    raise RuntimeError("no cgroup2 is mounted here")
