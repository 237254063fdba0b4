"""Slots of the agent: one directory a version, each with a venv of its own, made without a network.

What is on the disk at each instant: ``<version>.partial`` (worthless, removed by the next try),
then the slot under its own name, by one rename after it was tried and flushed. ``slot.json`` in it
says which release it was made from: the same name with another content is another slot. The release
itself stays in it, so that the slot can be recreated where the system's Python was exchanged.

Code of a release runs here before its trial: pip unpacks it, and it is asked for its version. That
runs as a user who owns nothing else (where root makes slots), and who may write to the partial slot
alone, and after pip to a directory for temporary files alone.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import pwd
import re
import shutil
import stat
import sys
import tempfile
import zipfile
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from ncen_updater.agent.adapters.application.process import run_supervised
from ncen_updater.agent.model.errors import AgentSlotError
from ncen_updater.agent.storage.agent_selection import VERSION_PATTERN
from ncen_updater.common import atomic_files as durable
from ncen_updater.common import landlock
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.messages import AGENT_RELEASE_UNUSABLE
from ncen_updater.common.progress import ProgressListener
from ncen_updater.common.supervised_process import AllowedLeftovers
from ncen_updater.formats.target_names import REQUIREMENTS, WHEELS

logger = logging.getLogger(__name__)

PARTIAL_SUFFIX = ".partial"
RECORD_FILE, RELEASE_DIRECTORY = "slot.json", "release"
#: Who unpacks; comes with the units.
BUILDER = "ncen-updater-build"
PROGRAM_NAME = "ncen-updater"
#: Modules by which an agent and the units know the next one: their names stay. The second imports
#: everything that the service and its children need.
CLI = "ncen_updater.agent.cli.main"
IMPORT_CHECK_MODULE = "ncen_updater.agent.self_update.import_check"
#: Isolated: neither the directory that it is called in nor PYTHONPATH may bring a module. It finds
#: its slot by itself, since a package moves it.
LAUNCHER = f"""\
#!/bin/sh
program=$(/usr/bin/readlink -f -- "$0")
exec "${{program%/*}}/python" -I -m {CLI} "$@"
"""
COMMAND_TIMEOUT_S = 900
MAX_DETAIL_CHARS = 1500


def find_base_python() -> Path:
    """Return the system's interpreter with which this program's venv was made."""
    return Path(getattr(sys, "_base_executable", None) or sys.executable)


def require_release(directory: Path) -> None:
    """Refuse a directory that is no release of the agent.

    Raises:
        AGENT_RELEASE_UNUSABLE: If so.
    """
    if not (directory / REQUIREMENTS).is_file():
        raise UpdaterError(
            AGENT_RELEASE_UNUSABLE,
            path=directory,
            reason=LazyText("{sign} not found", {"sign": REQUIREMENTS}),
        )
    wheels = sorted((directory / WHEELS).glob("*.whl"))
    if not wheels:
        raise UpdaterError(
            AGENT_RELEASE_UNUSABLE,
            path=directory,
            reason=LazyText("no wheel in {wheels}/", {"wheels": WHEELS}),
        )
    room = landlock.MAX_CONFINED_BYTES
    for wheel in wheels:
        try:
            with zipfile.ZipFile(wheel) as content:
                members = content.infolist()
        except (OSError, zipfile.BadZipFile) as error:
            raise UpdaterError(AGENT_RELEASE_UNUSABLE, path=wheel, reason=str(error)) from error
        room -= sum(member.file_size for member in members)
        # Python runs such a file at each start, whatever program is started.
        starts = next((one.filename for one in members if one.filename.endswith(".pth")), None)
        if room < 0 or starts:
            too_large = LazyText(
                N_("larger than {limit_bytes}"), {"limit_bytes": landlock.MAX_CONFINED_BYTES}
            )
            raise UpdaterError(AGENT_RELEASE_UNUSABLE, path=wheel, reason=starts or too_large)


def _builder() -> tuple[int, int] | None:
    """User and group that unpack; None for our own."""
    found = next((one for one in pwd.getpwall() if one.pw_name == BUILDER), None)
    return (found.pw_uid, found.pw_gid) if found and os.geteuid() == 0 else None


class AgentSlots:
    """The slots below one directory.

    Args:
        directory: Where they are.
        python: The interpreter that venvs are made with.
    """

    def __init__(self, directory: Path, python: Path | None = None) -> None:
        self.directory = directory
        self._python = python or find_base_python()

    def get_path(self, version: str) -> Path:
        """Directory of a slot, whether it exists or not."""
        return self.directory / version

    def list_versions(self) -> tuple[str, ...]:
        """Return every slot that is whole."""
        if not self.directory.is_dir():
            return ()
        names = (item.parent.name for item in self.directory.glob(f"*/{RECORD_FILE}"))
        return tuple(sorted(name for name in names if VERSION_PATTERN.fullmatch(name)))

    def read_source_digest(self, version: str) -> str | None:
        """Digest of the release that a slot was made from; None where there is no whole slot."""
        try:
            digest = json.loads((self.get_path(version) / RECORD_FILE).read_bytes())["digest"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return digest if isinstance(digest, str) else None

    def build(
        self,
        version: str,
        digest: str,
        fill: Callable[[Path], None],
        progress: ProgressListener,
        *,
        in_use: Collection[str] = (),
    ) -> None:
        """Make the slot of a release and try it; does nothing where it is there and works.

        Args:
            version: Which.
            digest: Of the release, for the record.
            fill: Puts the release, wheels and requirements, into an empty directory.
            progress: Told what is being done.
            in_use: Versions whose slots are not recreated.

        Raises:
            AgentSlotError: If it cannot be made, or does not work; nothing is left of it.
            AGENT_RELEASE_UNUSABLE: If what ``fill`` brought is no release of the agent.
        """
        place, partial = self.get_path(version), self.directory / f"{version}{PARTIAL_SUFFIX}"
        if self.read_source_digest(version) == digest and self.is_working(version):
            return
        if version in in_use:
            raise AgentSlotError(version=version, reason="in use, cannot be replaced")
        try:
            # What reads the feed runs this agent too, and so do people; as other users.
            with durable.make_world_readable():
                durable.make_directory(self.directory)
                _delete(partial)
                partial.mkdir()
                release = partial / RELEASE_DIRECTORY
                release.mkdir()
                fill(release)
                require_release(release)
                progress.report(
                    LazyText(N_("installing ncen-updater {version}"), {"version": version})
                )
                self._install(partial, release, version)
                self._take_over(partial, version)
                self._write_launcher(partial)
                self._test_slot(partial, version)
                record = {"version": version, "digest": digest}
                (partial / RECORD_FILE).write_text(json.dumps(record), "utf-8")
                durable.sync_filesystem(partial)
                if place.exists():
                    _delete(place)
                durable.rename_entry(partial, place)
        except OSError as error:
            _discard(partial)
            reason = os.strerror(error.errno or errno.EIO)
            raise AgentSlotError(version=version, reason=reason, detail=str(error)) from error
        except BaseException:
            _discard(partial)
            raise
        logger.info("slot of the agent made", extra={"release": version})

    def remove(self, version: str) -> None:
        """Remove a slot; its name goes first."""
        place, partial = self.get_path(version), self.directory / f"{version}{PARTIAL_SUFFIX}"
        if place.exists():
            _delete(partial)
            durable.rename_entry(place, partial)
        _delete(partial)

    def prune(
        self, keep: Collection[str], send_heartbeat: Callable[[], object] = lambda: None
    ) -> tuple[str, ...]:
        """Remove every slot but these, and what interrupted builds left; return what went.

        Args:
            keep: Versions that stay.
            send_heartbeat: Called before each removal, which may take a while on a slow disk.
        """
        gone = tuple(version for version in self.list_versions() if version not in keep)
        for version in gone:
            send_heartbeat()
            self.remove(version)
        for left in self.directory.glob(f"*{PARTIAL_SUFFIX}"):
            send_heartbeat()
            _delete(left)
        return gone

    # ---- parts -----------------------------------------------------------------------------------

    def _install(self, partial: Path, release: Path, version: str) -> None:
        builder = _builder()
        if builder is not None:
            # What is root's in it stays: the release, which the slot may be made from again.
            os.chown(partial, 0, builder[1])
            partial.chmod(0o1770)
        venv = [str(self._python), "-I", "-m", "venv", "--symlinks", str(partial)]
        self._run_command(version, venv, partial)
        pip = ["-m", "pip", "--isolated", "--no-input", "--disable-pip-version-check", "--quiet"]
        wheels = ["--find-links", str(release / WHEELS), "-r", str(release / REQUIREMENTS)]
        self._run_command(
            version,
            [
                str(partial / "bin/python"), "-I", *pip, "install", "--no-index", "--no-cache-dir",
                "--no-deps", "--only-binary", ":all:", "--require-hashes", *wheels,
            ],
            partial,
        )  # fmt: skip

    def _take_over(self, partial: Path, version: str) -> None:
        """Make our own what was unpacked; nobody else writes there from now on."""
        partial.chmod(0o755)
        ends = partial.resolve(), self._python.resolve()
        for path in (partial, *partial.rglob("*")):
            mode = path.lstat().st_mode
            link = stat.S_ISLNK(mode)
            if link and not any(path.resolve().is_relative_to(end) for end in ends):
                raise AgentSlotError(
                    version=version,
                    reason=LazyText("{name} points outside it", {"name": path.name}),
                )
            os.lchown(path, os.geteuid(), os.getegid())
            if not link:
                path.chmod(mode & 0o755)

    @staticmethod
    def _write_launcher(partial: Path) -> None:
        """Write the program again: what pip wrote names a directory that is about to be renamed."""
        program = partial / "bin" / PROGRAM_NAME
        program.unlink(missing_ok=True)
        program.write_text(LAUNCHER, "utf-8")
        program.chmod(0o755)

    def _test_slot(self, partial: Path, version: str) -> None:
        """Ask the new agent who it is, and let it import all that it needs."""
        python, builder = [str(partial / "bin/python"), "-I", "-m"], _builder()
        # Libraries look for a place for temporary files as they are imported.
        with tempfile.TemporaryDirectory() as name:
            if builder is not None:
                os.chown(name, *builder)
            place = Path(name)
            result = self._run_command(version, [*python, CLI, "--version"], place)
            if (
                re.fullmatch(rf"{PROGRAM_NAME} (\S+)", result.strip()) is None
                or version not in result.split()
            ):
                raise AgentSlotError(
                    version=version,
                    reason=LazyText("reported version: {said}", {"said": result.strip()[:100]}),
                )
            self._run_command(version, [*python, IMPORT_CHECK_MODULE], place)

    def is_working(self, version: str) -> bool:
        """Tell whether the slot's agent says who it is, and imports all that it needs."""
        try:
            self._test_slot(self.get_path(version), version)
        except (AgentSlotError, OSError) as error:
            logger.warning("the slot is rebuilt: %s", error)
            return False
        return True

    @staticmethod
    def _run_command(version: str, command: Sequence[str], writes: Path) -> str:
        environment = {"PATH": os.environ.get("PATH", os.defpath), "TMPDIR": str(writes)}
        environment["PIP_CONFIG_FILE"] = os.devnull
        confined = [sys.executable, "-I", "-m", landlock.__name__, str(writes), *command]
        # What pip has started, too, writes into a slot: nothing of it outlives this process.
        ended = run_supervised(
            confined,
            environment,
            COMMAND_TIMEOUT_S,
            leftovers=AllowedLeftovers.NOTHING,
            become=_builder(),
        )
        returncode = ended.status
        if returncode is None:
            raise AgentSlotError(
                version=version, reason=LazyText("'{command}' timed out", {"command": command[0]})
            )
        if returncode != 0:
            detail = ended.output[-MAX_DETAIL_CHARS:]
            words = {"command": " ".join(command[1:4]), "status": returncode}
            reason = LazyText(N_("{command}: exit status {status}"), words)
            raise AgentSlotError(version=version, reason=reason, detail=detail)
        return ended.output


def _delete(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)
    if path.parent.is_dir():
        durable.fsync_directory(path.parent)


def _discard(partial: Path) -> None:
    """Remove a partial slot, so that a full disk has room to report the failure."""
    shutil.rmtree(partial, ignore_errors=True)
