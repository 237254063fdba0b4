"""Slots of the agent: one directory per version, each with its own venv, built without a network.

A slot is built as ``<version>.partial`` (worthless, removed by the next attempt), tested, flushed
to disk, and renamed to its final name. Its ``slot.json`` contains the digest of the release that it
was built from: another release with the same version is another slot.

Code of a release runs here before its trial: pip unpacks it, and the new agent prints its version.
Both run as a user who owns nothing else (if root builds the slot) and who may write only to the
partial slot, and after pip only to a temporary directory.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import pwd
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
#: User who unpacks releases; the units create it.
BUILDER = "ncen-updater-build"
PROGRAM_NAME = "ncen-updater"
#: Modules that agents and units of other versions run, so their names must not change: the command
#: line, and the test that imports everything that the service and its worker processes need.
CLI = "ncen_updater.agent.cli.main"
IMPORT_CHECK_MODULE = "ncen_updater.agent.self_update.import_check"
#: Isolated mode: neither the current directory nor PYTHONPATH can add modules. The script resolves
#: its own path, since a package moves the slot.
LAUNCHER = f"""\
#!/bin/sh
program=$(/usr/bin/readlink -f -- "$0")
exec "${{program%/*}}/python" -I -m {CLI} "$@"
"""
COMMAND_TIMEOUT_S = 900
MAX_DETAIL_CHARS = 1500


def require_release(directory: Path) -> None:
    """Refuse a directory that is not a release of the agent.

    Raises:
        AGENT_RELEASE_UNUSABLE: If it is not one.
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
    bytes_left = landlock.MAX_CONFINED_BYTES
    for wheel in wheels:
        try:
            with zipfile.ZipFile(wheel) as content:
                members = content.infolist()
        except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
            raise UpdaterError(AGENT_RELEASE_UNUSABLE, path=wheel, reason=str(error)) from error
        bytes_left -= sum(member.file_size for member in members)
        # Python executes .pth files whenever an interpreter of the venv starts.
        pth_file = next((one.filename for one in members if one.filename.endswith(".pth")), None)
        if bytes_left < 0 or pth_file:
            too_large = LazyText(
                N_("more than {limit_bytes}"), {"limit_bytes": landlock.MAX_CONFINED_BYTES}
            )
            raise UpdaterError(AGENT_RELEASE_UNUSABLE, path=wheel, reason=pth_file or too_large)


def _find_builder() -> tuple[int, int] | None:
    """Return UID and GID of the user who unpacks releases; None for the current user."""
    user = next((one for one in pwd.getpwall() if one.pw_name == BUILDER), None)
    return (user.pw_uid, user.pw_gid) if user and os.geteuid() == 0 else None


class AgentSlots:
    """The agent's slots in one directory.

    Args:
        directory: The directory.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._python = Path(getattr(sys, "_base_executable", None) or sys.executable)

    def get_path(self, version: str) -> Path:
        """Return the directory of a slot, whether it exists or not."""
        return self.directory / version

    def list_versions(self) -> tuple[str, ...]:
        """Return the versions of all complete slots."""
        if not self.directory.is_dir():
            return ()
        names = (item.parent.name for item in self.directory.glob(f"*/{RECORD_FILE}"))
        names = (name for name in names if not name.endswith(PARTIAL_SUFFIX))
        return tuple(sorted(name for name in names if VERSION_PATTERN.fullmatch(name)))

    def read_source_digest(self, version: str) -> str | None:
        """Return the digest of the release that a slot was built from; None if it is incomplete."""
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
        """Build and test the slot of a release, unless it exists and works.

        Args:
            version: Version of the release.
            digest: Digest of the release, stored in the slot.
            fill: Writes the release (wheels and requirements) into the given empty directory.
            progress: Receives the progress.
            in_use: Versions whose slots must not be rebuilt.

        Raises:
            AgentSlotError: If the slot cannot be built or does not work; the partial slot is
                removed.
            AGENT_RELEASE_UNUSABLE: If ``fill`` did not write a release of the agent.
        """
        slot, partial = self.get_path(version), self.directory / f"{version}{PARTIAL_SUFFIX}"
        if self.read_source_digest(version) == digest and self.is_working(version):
            return
        if version in in_use:
            raise AgentSlotError(version=version, reason="in use, cannot be replaced")
        try:
            # The feed reader and local users run this agent as well, under other UIDs.
            with durable.make_world_readable():
                durable.make_directory(self.directory)
                durable.remove_entry(partial)
                partial.mkdir()
                release = partial / RELEASE_DIRECTORY
                release.mkdir()
                fill(release)
                require_release(release)
                progress.report(
                    LazyText(N_("installing ncen-updater {version}"), {"version": version})
                )
                self._install(partial, release, version)
                shutil.rmtree(release)
                self._take_ownership(partial, version)
                self._write_launcher(partial)
                self._test_slot(partial, version)
                record = {"version": version, "digest": digest}
                (partial / RECORD_FILE).write_text(json.dumps(record), "utf-8")
                durable.sync_filesystem(partial)
                replaced = self.directory / f"{version}.replaced{PARTIAL_SUFFIX}"
                durable.remove_entry(replaced)
                if slot.exists():
                    durable.rename_entry(slot, replaced)
                durable.rename_entry(partial, slot)
                _discard(replaced)
        except OSError as error:
            _discard(partial)
            reason = os.strerror(error.errno or errno.EIO)
            raise AgentSlotError(version=version, reason=reason, detail=str(error)) from error
        except BaseException:
            _discard(partial)
            raise
        logger.info("slot of the agent built", extra={"release": version})

    def remove(self, version: str) -> None:
        """Remove a slot, renaming it first."""
        slot, partial = self.get_path(version), self.directory / f"{version}{PARTIAL_SUFFIX}"
        if slot.exists():
            durable.remove_entry(partial)
            durable.rename_entry(slot, partial)
        durable.remove_entry(partial)

    def prune(
        self, keep: Collection[str], send_heartbeat: Callable[[], object] = lambda: None
    ) -> tuple[str, ...]:
        """Remove all slots except these, and leftovers of interrupted builds; return the versions.

        Args:
            keep: Versions that remain.
            send_heartbeat: Called before each removal, which may be slow.
        """
        removed = tuple(version for version in self.list_versions() if version not in keep)
        for version in removed:
            send_heartbeat()
            self.remove(version)
        for leftover in self.directory.glob(f"*{PARTIAL_SUFFIX}"):
            send_heartbeat()
            durable.remove_entry(leftover)
        return removed

    # ---- building --------------------------------------------------------------------------------

    def _install(self, partial: Path, release: Path, version: str) -> None:
        builder = _find_builder()
        if builder is not None:
            # Sticky bit: the builder cannot replace root's files, in particular the release.
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

    def _take_ownership(self, partial: Path, version: str) -> None:
        """Make the current user the owner of all files, and remove write access of all others."""
        partial.chmod(0o755)
        allowed_roots = partial.resolve(), self._python.resolve()
        for path in (partial, *partial.rglob("*")):
            mode = path.lstat().st_mode
            is_link = stat.S_ISLNK(mode)
            if is_link and not any(path.resolve().is_relative_to(root) for root in allowed_roots):
                raise AgentSlotError(
                    version=version,
                    reason=LazyText("{name} points outside it", {"name": path.name}),
                )
            os.lchown(path, os.geteuid(), os.getegid())
            if not is_link:
                path.chmod(mode & 0o755)

    @staticmethod
    def _write_launcher(partial: Path) -> None:
        """Rewrite the program: pip's version contains the directory's path before its renaming."""
        program = partial / "bin" / PROGRAM_NAME
        program.unlink(missing_ok=True)
        program.write_text(LAUNCHER, "utf-8")
        program.chmod(0o755)

    def _test_slot(self, partial: Path, version: str) -> None:
        """Check the version that the new agent prints, and run its import check."""
        python, builder = [str(partial / "bin/python"), "-I", "-m"], _find_builder()
        # Libraries look for a temporary directory while they are imported.
        with tempfile.TemporaryDirectory() as name:
            if builder is not None:
                os.chown(name, *builder)
            temporary = Path(name)
            result = self._run_command(version, [*python, CLI, "--version"], temporary)
            # Python and libraries may add warnings.
            if f"{PROGRAM_NAME} {version}" not in result.splitlines():
                raise AgentSlotError(
                    version=version,
                    reason=LazyText("reported version: {said}", {"said": result.strip()[:100]}),
                )
            self._run_command(version, [*python, IMPORT_CHECK_MODULE], temporary)

    def is_working(self, version: str) -> bool:
        """Return whether the slot's agent prints its version and passes its import check."""
        try:
            self._test_slot(self.get_path(version), version)
        except (AgentSlotError, OSError) as error:
            logger.warning("rebuilding the slot: %s", error)
            return False
        return True

    @staticmethod
    def _run_command(version: str, command: Sequence[str], writable: Path) -> str:
        environment = {"PATH": os.environ.get("PATH", os.defpath), "TMPDIR": str(writable)}
        environment["PIP_CONFIG_FILE"] = os.devnull
        confined = [sys.executable, "-I", "-m", landlock.__name__, str(writable), *command]
        # Also kill the descendants of pip, which could write to the slot later.
        result = run_supervised(
            confined,
            environment,
            COMMAND_TIMEOUT_S,
            leftovers=AllowedLeftovers.NOTHING,
            run_as=_find_builder(),
        )
        returncode = result.status
        if returncode is None:
            raise AgentSlotError(
                version=version, reason=LazyText("'{command}' timed out", {"command": command[0]})
            )
        if returncode != 0:
            detail = result.output[-MAX_DETAIL_CHARS:]
            values = {"command": " ".join(command[1:4]), "status": returncode}
            reason = LazyText(N_("{command}: exit code {status}"), values)
            raise AgentSlotError(version=version, reason=reason, detail=detail)
        return result.output


def _discard(partial: Path) -> None:
    """Remove a partial slot as far as possible: a full disk needs space to report the failure."""
    shutil.rmtree(partial, ignore_errors=True)
