"""The disks at the start of all trials: Debian, a site without the agent, and one with it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path

from benchmarks.machine.box import Box, make_image, make_tree
from benchmarks.machine.disk import Image
from benchmarks.machine.line import Outside
from benchmarks.machine.site import Administrator, Secretariat, lay_out_application
from benchmarks.report import print_line

CASES = 3000


class Ground:
    """A directory with all disks; existing ones are used again.

    Args:
        work: The directory.
        seed: Seed of the records.
    """

    def __init__(self, work: Path, seed: int) -> None:
        self.work, self._seed = work, seed
        work.mkdir(parents=True, exist_ok=True)
        self.debian, self.bare, self.site = (
            work / name for name in ("debian.img", "bare.img", "site.img")
        )
        self.secretariat = Secretariat(work)

    def make(
        self, tree: Path | None, mirror: str, package: Path, *, with_sites: bool = True
    ) -> None:
        """Create the missing disks.

        Args:
            tree: A Debian tree of :func:`~.box.make_tree`; created if it is missing.
            mirror: Debian mirror.
            package: Package of the agent.
            with_sites: Whether the disks with a site are needed.

        Raises:
            RuntimeError: If a command of the guide fails.
        """
        if not self.secretariat.directory.exists():
            self.secretariat.make(package)
        if not self.debian.exists():
            if tree is None:
                tree = self.work / "tree"
                if not tree.exists():
                    print_line("making a Debian system")
                    make_tree(tree, mirror)
            make_image(tree, self.debian)
        if not with_sites:
            return
        outside = Outside(self.secretariat.feed)
        try:
            if not self.bare.exists():
                print_line("laying nCEN out as somebody installed it by hand")
                self._bare(outside)
            if not self.site.exists():
                print_line("installing the agent as its guide says")
                self._site(outside, package.name)
        finally:
            outside.close()

    def box(self, image: Image, name: str) -> Box:
        """Return a machine that was not started yet."""
        return Box(image, self.secretariat.directory, self.place(name))

    def place(self, name: str) -> Path:
        """Return a path that only this process uses."""
        return self.work / f"{name}-{os.getpid()}"

    def _bare(self, outside: Outside) -> None:
        box = self.box(Image(self.debian), "bare")
        try:
            box.boot()
            outside.connect(box)
            lay_out_application(box.container, self.secretariat.directory, CASES, self._seed)
            box.power_off().save(self.bare)
        finally:
            box.close()

    def _site(self, outside: Outside, package: str) -> None:
        box = self.box(Image(self.bare), "site")
        try:
            box.boot()
            outside.connect(box)
            administrator = Administrator(box.container, self.secretariat.directory, package)
            administrator.install()
            administrator.adopt()
            typed = [asdict(line) for line in administrator.typed]
            (self.work / "guide.json").write_text(json.dumps(typed, indent=1), "utf-8")
            failed = [line for line in administrator.typed if line.status]
            if failed:
                raise RuntimeError(f"lines of the guide fail: {failed}")
            units = box.container.run("systemctl", "--failed", "--plain", "--no-legend").stdout
            if units.strip():
                raise RuntimeError(f"failed units after the installation: {units}")
            box.power_off().save(self.site)
        finally:
            box.close()


def change_disk(image: Image, path: Path, script: str) -> Image:
    """Change the disk of a machine that is off, and return the result.

    Args:
        image: The disk.
        path: The file to create.
        script: Shell script, run in the root directory of the disk.
    """
    image.save(path)
    root = path.with_suffix(".mounted")
    root.mkdir()
    subprocess.run(["mount", "-o", "loop", str(path), str(root)], check=True)
    try:
        subprocess.run(["sh", "-ec", script], cwd=root, check=True)
    finally:
        subprocess.run(["umount", str(root)], check=True)
    shutil.rmtree(root)
    return Image(path)
