"""One machine: Debian's own systemd, on a disk whose power can be cut."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random

from benchmarks.debian.container import Container, wait_for
from benchmarks.machine.disk import Disk, Image, Loss, Pending, Recording
from benchmarks.machine.nbd import NbdServer

PROGRAMS = ("nbdfuse", "unshare", "nsenter", "mkfs.ext4", "fusermount3", "ip", "losetup")
#: Packages of the machine, beyond ``minbase``.
PACKAGES = (
    "adduser", "apache2", "ca-certificates", "curl", "dbus", "faketime", "init-system-helpers",
    "iproute2", "libpq5", "needrestart", "nginx-light", "openssh-client", "openssl", "postgresql",
    "procps", "python3", "python3-psycopg", "python3-venv", "sudo", "supervisor",
    "systemd", "systemd-sysv",
)  # fmt: skip
#: Packages that are installed again on a machine without a network.
CACHE, SERVER, LIBPQ = "var/cache/apt/archives", "postgresql-[0-9]*.deb", "libpq5_*.deb"
#: Arguments: mount point of the root, file of the disk, shared directory.
MOUNTS = r"""
root=$0 disk=$1 shared=$2
mount -o loop "$disk" "$root"
mkdir -p "$root/pkg"
mount --bind "$shared" "$root/pkg"
mount -o remount,bind,ro "$root/pkg"
"""


def cannot_run() -> str | None:
    """Return why no machine can run here; None if it can."""
    if os.geteuid() != 0:
        return "only root may make namespaces and mount the disk"
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    for device in ("/dev/fuse", "/dev/loop-control"):
        if not Path(device).exists():
            return f"there is no {device}"
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    if not any(kind == "cgroup2" for _, _, kind, *_ in mounts):
        return "no cgroup2 is mounted, which systemd needs"
    tried = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--net", "--uts", "--ipc", "--cgroup", "true"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return f"no namespaces can be made: {tried.stderr.strip()}" if tried.returncode else None


def make_tree(tree: Path, mirror: str, suite: str = "trixie") -> None:
    """Create a Debian system as sites have it: systemd, PostgreSQL, nginx, and no agent.

    Args:
        tree: The directory to create.
        mirror: Debian mirror.
        suite: Debian release.
    """
    include = ",".join(PACKAGES)
    words = ["debootstrap", "--variant=minbase", f"--include={include}", suite, str(tree), mirror]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    (tree / "etc/hostname").write_text("ncen-site\n", "utf-8")
    (tree / "etc/hosts").write_text("127.0.0.1 localhost\n127.0.1.1 ncen-site\n", "utf-8")
    # A site uses one of the two web servers.
    (tree / "etc/systemd/system/multi-user.target.wants/apache2.service").unlink()
    # There are no modules to load here; systemd counts that as a failed unit.
    (tree / "etc/systemd/system/systemd-modules-load.service").symlink_to("/dev/null")
    clear_cache(tree)


def clear_cache(tree: Path) -> None:
    """Remove downloaded packages, except PostgreSQL's."""
    kept = {file for form in (SERVER, LIBPQ) for file in (tree / CACHE).glob(form)}
    for file in (tree / CACHE).glob("*.deb"):
        if file not in kept:
            file.unlink()


def make_image(tree: Path, path: Path, size: str = "4G") -> None:
    """Create an ext4 disk with the usual options from a Debian tree."""
    subprocess.run(["truncate", "--size", size, str(path)], check=True)
    # Write now what the first mount would write in the background.
    now = "lazy_itable_init=0,lazy_journal_init=0"
    subprocess.run(["mkfs.ext4", "-q", "-E", now, "-d", str(tree), str(path)], check=True)


@dataclass(frozen=True)
class Cut:
    """State after a power cut.

    Attributes:
        image: The disk.
        entries: Number of writes and flushes before the cut.
        at: Time in seconds since the epoch; later acknowledgements promise nothing.
        pending: Writes that were not flushed.
    """

    image: Image
    entries: int
    at: float
    pending: Pending


class Box:
    """A machine with a disk.

    Args:
        image: Initial content of the disk; not changed.
        shared: Directory mounted read-only as ``/pkg`` inside.
        work: Directory for the recording and mount points; created, and removed at the end.
    """

    def __init__(self, image: Image, shared: Path, work: Path) -> None:
        self._work = work
        work.mkdir(parents=True)
        (work / "root").mkdir()
        (work / "fuse").mkdir()
        self.recording = Recording(work / "recording")
        self.disk = Disk(image, self.recording)
        self._server: NbdServer | None = NbdServer(self.disk, work / "nbd")
        self._fuse = subprocess.Popen(
            ["nbdfuse", str(work / "fuse"), f"nbd+unix:///?socket={work}/nbd"],
            stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        file = work / "fuse/nbd"
        if wait_for(lambda: True if file.exists() else None, 30) is None:
            raise RuntimeError("nbdfuse makes no file of the disk")
        self.container = Container(MOUNTS, work / "root", file, shared)
        self.began = 0.0
        self._officers: subprocess.Popen[bytes] | None = None
        self.log = work / "officers.jsonl"

    def start(self) -> None:
        """Start the machine."""
        self.began = time.time()
        self.container.start()

    def boot(self) -> None:
        """Start the machine, and wait until its units are up."""
        self.began = time.time()
        self.container.boot()

    def start_users(self, pause_s: float = 0.1) -> None:
        """Start users who enter cases through the web server of the machine."""
        target = f"--target={self.container.first}"
        traffic = [sys.executable, "-m", "demo.traffic", "--url", "http://127.0.0.1"]
        self._officers = subprocess.Popen(
            ["nsenter", target, "--net", *traffic, "--log", str(self.log), "--pause", str(pause_s)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            cwd=Path(__file__).parents[2],
        )  # fmt: skip

    def stop_users(self) -> None:
        """Stop the users."""
        process, self._officers = self._officers, None
        if process is not None:
            process.terminate()
            process.wait(30)

    def cut(self, loss: Loss, chance: Random) -> Cut:
        """Cut the power."""
        entries = self.disk.stop()
        self.container.cut()
        self.stop_users()
        self._detach()
        image, pending = self.recording.cut(self.disk.begin, entries, loss, chance)
        return Cut(image, entries, self.recording.when(entries), pending)

    def power_off(self) -> Image:
        """Shut the machine down in an orderly manner, and return its disk."""
        self.stop_users()
        self.container.run("systemctl", "--no-block", "poweroff")
        self.container.wait(120)
        image = self.disk.kept()
        self.disk.stop()
        self._detach()
        return image

    def close(self) -> None:
        """Stop the machine and remove everything that it left."""
        self.stop_users()
        self.disk.stop()
        self.container.close()
        self._detach()
        self.recording.close()
        shutil.rmtree(self._work)

    def _detach(self) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        # The file system is unmounted, and the loop device released, after the last process of the
        # machine has ended.
        if wait_for(lambda: None if self._loop() else True, 60) is None:
            raise RuntimeError("the loop device of the disk is not given up")
        subprocess.run(["fusermount3", "-u", str(self._work / "fuse")], check=False)
        self._fuse.terminate()
        self._fuse.wait(30)
        server.close()

    def _loop(self) -> bool:
        file = str(self._work / "fuse/nbd")
        return bool(subprocess.check_output(["losetup", "--associated", file], text=True).strip())
