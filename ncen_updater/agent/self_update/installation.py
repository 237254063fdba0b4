"""Install the agent on a server and remove it, as lists of parts.

All files are below one root directory, so that tests need no privileges. Users, groups and units
are parts only if the root directory is ``/`` and the user is root.
"""

from __future__ import annotations

import contextlib
import grp
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ncen_updater.agent.adapters.application.process import build_minimal_environment
from ncen_updater.agent.adapters.application.systemctl import run_systemctl
from ncen_updater.agent.config.agent_config import PathSettings
from ncen_updater.agent.config.loader import load_config
from ncen_updater.agent.config.service import ServiceSettings
from ncen_updater.agent.engine.lock import hold_change_lock
from ncen_updater.agent.model.errors import SiteBusyError
from ncen_updater.agent.model.event_names import CHANGE_LOCK_FILE, JOURNAL_FILE, SERVICE_LOCK_FILE
from ncen_updater.agent.self_update.agent_directory import FAILSAFE_FILE, read_failsafe
from ncen_updater.agent.self_update.slots import PROGRAM_NAME, AgentSlots, require_release
from ncen_updater.agent.storage.agent_selection import (
    AgentSelectionFile,
    TrialState,
    select_installed,
)
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common import atomic_files as durable
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, LazyText
from ncen_updater.common.json_records import compute_sha256
from ncen_updater.common.messages import (
    AGENT_RELEASE_UNUSABLE,
    CHANGE_STILL_OPEN,
    INSTALL_FAILED,
    INSTALLED_BY_PACKAGE,
    ROOT_ALREADY_INSTALLED,
    ROOT_UNUSABLE,
    SERVICE_STILL_RUNS,
)
from ncen_updater.common.progress import ProgressListener
from ncen_updater.formats.manifest import load_manifest
from ncen_updater.formats.target_names import AGENT_PRODUCT, REQUIREMENTS

COMMAND_TIMEOUT_S = 120
UNITS_DIRECTORY = "units"
#: Directories for files of ``units`` by suffix; other files are systemd units.
UNIT_DIRECTORIES = {".sysusers": Path("etc/sysusers.d"), ".tmpfiles": Path("etc/tmpfiles.d")}
SYSTEMD_UNIT_DIRECTORY = Path("etc/systemd/system")
PROGRAM_PATH = Path("usr/local/bin") / PROGRAM_NAME
#: Path at which a system package installs the unit that the application waits for.
PACKAGED_UNIT_PATH = Path("usr/lib/systemd/system/ncen-updater-resume.service")


@dataclass(frozen=True)
class InstallOptions:
    """Options of an installation.

    Attributes:
        root: Directory below which everything is installed.
        config: The configuration file; created from ``settings`` if missing.
        release: An unpacked release of the agent.
        trusted_root: Root metadata from the Secretariat; None if one is installed.
        settings: Content of a new configuration file.
        python: Interpreter for the venvs of the slots; by default that of this program.
    """

    root: Path
    config: Path
    release: Path
    trusted_root: Path | None = None
    settings: str | None = None
    python: Path | None = None

    @property
    def is_live_system(self) -> bool:
        """Return whether the installation is for the running system."""
        return self.root == Path("/") and os.geteuid() == 0

    def load_paths(self) -> PathSettings:
        """Return the paths from the configuration, or the defaults without one."""
        return (
            load_config(self.config).paths if self.config.exists() else PathSettings(root=self.root)
        )


def load_trusted_root(path: Path) -> bytes:
    """Return the content of root metadata, verified with its own keys.

    Raises:
        ROOT_UNUSABLE: If it is not root metadata, or not signed by its own keys.
    """
    from tuf.api.exceptions import RepositoryError
    from tuf.api.metadata import Metadata, Root  # type: ignore[attr-defined]

    try:
        content = path.read_bytes()
        metadata = Metadata[Root].from_bytes(content)
        if not isinstance(metadata.signed, Root):
            raise UpdaterError(
                ROOT_UNUSABLE,
                path=path,
                reason=LazyText("type is '{type}'", {"type": metadata.signed.type}),
            )
        metadata.verify_delegate("root", metadata)
    except (OSError, RepositoryError, ValueError) as error:
        raise UpdaterError(ROOT_UNUSABLE, path=path, reason=str(error)) from error
    return content


def build_install_parts(
    options: InstallOptions, progress: ProgressListener
) -> tuple[InstallationPart, ...]:
    """Return all parts of an installation, in order.

    Raises:
        AGENT_RELEASE_UNUSABLE: If the directory is not a release of the agent.
        ROOT_UNUSABLE, ROOT_ALREADY_INSTALLED: If the root metadata cannot be installed.
        ConfigError: If the existing configuration is invalid.
    """
    require_release(options.release)
    manifest = load_manifest(options.release / "manifest.toml")
    if manifest.product != AGENT_PRODUCT:
        raise UpdaterError(
            AGENT_RELEASE_UNUSABLE,
            path=options.release,
            reason=LazyText("it belongs to {product}", {"product": manifest.product}),
        )
    paths = options.load_paths()
    agent = paths.resolve(paths.agent_slots)
    return (
        *(_build_group_parts() if options.is_live_system else ()),
        *_build_directory_parts(options, paths),
        *_build_trusted_root_parts(options, paths),
        *_build_config_parts(options),
        _build_slot_part(options, agent, manifest.version, progress),
        _build_selection_part(agent, manifest.version),
        _build_failsafe_part(agent),
        build_link_part(
            LazyText(N_("the command {name}"), {"name": PROGRAM_NAME}),
            options.root / PROGRAM_PATH,
            agent / "current/bin" / PROGRAM_NAME,
        ),
        *_build_unit_parts(options),
    )


def _build_group_parts() -> Iterator[InstallationPart]:
    """Yield the parts that create the default viewer, operator and approver groups."""
    service = ServiceSettings()
    for name in sorted({service.viewer_group, service.operator_group, service.approver_group}):
        description = LazyText(N_("the group {name}"), {"name": name})
        yield build_command_part(
            description, ["groupadd", "--system", name], partial(_group_exists, name)
        )


def _group_exists(group: str) -> bool:
    try:
        grp.getgrnam(group)
    except KeyError:
        return False
    return True


def _build_directory_parts(
    options: InstallOptions, paths: PathSettings
) -> Iterator[InstallationPart]:
    trust = paths.resolve(paths.trusted_root).parent
    for path, mode in (
        (options.config.parent, 0o750),
        (options.config.parent / "hooks", 0o750),
        (trust, 0o750),
        (paths.resolve(paths.state), 0o750),
        (paths.resolve(paths.slots), 0o755),
        (paths.resolve(paths.agent_slots), 0o755),
        (options.root / "run/ncen", 0o755),
    ):
        yield build_directory_part(LazyText(N_("the directory {path}"), {"path": path}), path, mode)


def _build_trusted_root_parts(
    options: InstallOptions, paths: PathSettings
) -> Iterator[InstallationPart]:
    path = paths.resolve(paths.trusted_root)
    if options.trusted_root is None:
        if not path.exists():
            raise UpdaterError(ROOT_UNUSABLE, path=path, reason="not found, and none given")
        return
    content = load_trusted_root(options.trusted_root)
    if path.exists() and path.read_bytes() != content:
        raise UpdaterError(ROOT_ALREADY_INSTALLED, path=path)
    values = {"path": path, "digest": compute_sha256(content)}
    yield build_file_part(
        LazyText(N_("trusted root {path} (SHA-256 {digest})"), values), path, content, 0o644
    )


def _build_config_parts(options: InstallOptions) -> Iterator[InstallationPart]:
    if options.settings is None:
        return
    content = options.settings.encode()

    def make() -> None:
        trial = options.config.with_name(f".{options.config.name}.trial")
        durable.write_file(trial, content, 0o640)
        try:
            load_config(trial)
        except BaseException:
            durable.remove_file(trial)
            raise
        durable.rename_entry(trial, options.config)

    yield InstallationPart(
        LazyText(N_("configuration {path}"), {"path": options.config}),
        options.config.exists,
        make,
    )


def _build_slot_part(
    options: InstallOptions, agent: Path, version: str, progress: ProgressListener
) -> InstallationPart:
    slots = AgentSlots(agent, options.python)
    # The requirements contain the digest of every wheel, including the agent's own.
    digest = compute_sha256((options.release / REQUIREMENTS).read_bytes())

    def fill(directory: Path) -> None:
        shutil.copytree(options.release, directory, dirs_exist_ok=True)

    return InstallationPart(
        LazyText(N_("installation of ncen-updater {version}"), {"version": version}),
        lambda: slots.read_source_digest(version) == digest and slots.is_working(version),
        lambda: slots.build(version, digest, fill, progress),
    )


def _build_selection_part(agent: Path, version: str) -> InstallationPart:
    file = AgentSelectionFile(agent)

    def is_selected() -> bool:
        selection = file.load()
        link = agent / "current"
        return selection is not None and selection.current == version and link.is_symlink()

    return InstallationPart(
        LazyText(N_("activation of ncen-updater {version}"), {"version": version}),
        is_selected,
        lambda: file.update(lambda before: select_installed(before, version)),
    )


def _build_failsafe_part(agent: Path) -> InstallationPart:
    """Return the failsafe's part; the existing failsafe remains while an agent is on trial."""
    part = build_file_part(LazyText(N_("failsafe")), agent / FAILSAFE_FILE, read_failsafe(), 0o755)

    def is_present() -> bool:
        selection = AgentSelectionFile(agent).load()
        on_trial = selection is not None and selection.state is TrialState.ON_TRIAL
        return part.is_present() or (on_trial and (agent / FAILSAFE_FILE).exists())

    return InstallationPart(part.description, is_present, part.create)


def _build_unit_parts(options: InstallOptions) -> Iterator[InstallationPart]:
    units = (
        sorted((options.release / UNITS_DIRECTORY).glob("*"))
        if (options.release / UNITS_DIRECTORY).is_dir()
        else []
    )
    present = []
    for unit in units:
        path = locate_unit(options.root, unit)
        description = LazyText(N_("unit {name}"), {"name": path.name})
        part = build_file_part(description, path, unit.read_bytes(), 0o644)
        present.append(part.is_present())
        yield part
    if options.is_live_system and not all(present):
        description = LazyText(N_("reload systemd"))
        for command in (["systemd-sysusers"], ["systemd-tmpfiles", "--create"]):
            if shutil.which(command[0]):
                yield build_command_part(description, command, lambda: False)
        if SYSTEMD_BOOTED_PATH.is_dir():
            yield build_command_part(description, ["systemctl", "daemon-reload"], lambda: False)
    if options.is_live_system and shutil.which("systemctl"):
        yield from build_enable_parts(units)


def locate_unit(root: Path, unit: Path) -> Path:
    """Return the path at which a file of ``units`` is installed."""
    if unit.suffix in UNIT_DIRECTORIES:
        return root / UNIT_DIRECTORIES[unit.suffix] / f"{unit.stem}.conf"
    return root / SYSTEMD_UNIT_DIRECTORY / unit.name


# ---- removal -------------------------------------------------------------------------------------


def reject_packaged_install(root: Path) -> None:
    """Refuse to remove a system package's installation: its units would remain, and fail.

    Raises:
        UpdaterError: If a system package installed the agent.
    """
    if (root / PACKAGED_UNIT_PATH).exists():
        raise UpdaterError(INSTALLED_BY_PACKAGE, path=root / PACKAGED_UNIT_PATH)


@contextlib.contextmanager
def hold_idle_site(state: Path) -> Iterator[None]:
    """Prevent changes while the agent is being removed.

    Raises:
        CHANGE_STILL_OPEN: If a change is open.
        SiteBusyError: If a change is running.
        SERVICE_STILL_RUNS: If the service is running.
    """
    if not state.is_dir():
        yield
        return
    with contextlib.ExitStack() as stack:
        stack.enter_context(hold_change_lock(state / CHANGE_LOCK_FILE, "uninstall"))
        try:
            stack.enter_context(hold_change_lock(state / SERVICE_LOCK_FILE, "uninstall"))
        except SiteBusyError as error:
            raise UpdaterError(SERVICE_STILL_RUNS) from error
        if (state / JOURNAL_FILE).exists():
            with Journal.open(state / JOURNAL_FILE, read_only=True) as journal:
                change = journal.find_open_change()
            if change is not None:
                raise UpdaterError(CHANGE_STILL_OPEN, change=change.id)
        yield


def build_uninstall_parts(root: Path, config: Path, *, purge: bool) -> tuple[InstallationPart, ...]:
    """Return the parts to remove; never the application, its slots or its databases.

    Args:
        root: Directory below which everything is installed.
        config: The configuration file.
        purge: Whether to remove journal, metadata and configuration as well.

    Raises:
        ConfigError: If the configuration is invalid, so that the paths are unknown.
    """
    paths = load_config(config).paths if config.exists() else PathSettings(root=root)
    agent = paths.resolve(paths.agent_slots)
    released_units = sorted((agent / "current/release" / UNITS_DIRECTORY).glob("*"))
    units = [locate_unit(root, unit) for unit in released_units]
    removed = [*units, root / PROGRAM_PATH]
    if purge:
        removed += [paths.resolve(paths.state), config.parent]
    removed.append(agent)
    system = root == Path("/") and os.geteuid() == 0 and shutil.which("systemctl") is not None
    return (
        *(build_disable_parts(units) if system else ()),
        *(
            build_removal_part(LazyText(N_("remove {path}"), {"path": path}), path)
            for path in removed
        ),
    )


# ---- enabled units -------------------------------------------------------------------------------
#
# Units are enabled when the agent is installed and disabled before their files are removed. The
# application waits for the resume unit: with a dangling link it would not start. Without a link, an
# upgrade that a power failure interrupted would not be completed before the application starts.

SYSTEMD_BOOTED_PATH = Path("/run/systemd/system")  # sd_booted(3)
SYSTEMCTL_S = 60
#: In units that are enabled only by the administrator; systemd ignores X- sections,
#: systemd.unit(5).
OPTIONAL_SECTION = "\n[X-ncen-updater]\nOptional=yes\n"


def build_enable_parts(units: Iterable[Path]) -> Iterator[InstallationPart]:
    """Yield the parts that enable units, except optional ones.

    Args:
        units: Unit files, installed or in the release.
    """
    for unit in _list_installable_units(units):
        if OPTIONAL_SECTION in unit.read_text("utf-8"):
            continue
        description = LazyText(N_("enable {name}"), {"name": unit.name})
        command = ["systemctl", "enable", *_build_now_option(unit), unit.name]
        yield build_command_part(description, command, partial(_is_enabled, unit.name))


def build_disable_parts(units: Iterable[Path]) -> Iterator[InstallationPart]:
    """Yield the parts that disable units.

    The resume unit is not stopped: systemd would stop the application with it.

    Args:
        units: Unit files that will be removed.
    """
    for unit in _list_installable_units(units):
        description = LazyText(N_("disable {name}"), {"name": unit.name})
        command = ["systemctl", "disable", *_build_now_option(unit), unit.name]
        yield build_command_part(description, command, partial(_is_disabled, unit.name))


def _list_installable_units(units: Iterable[Path]) -> Iterator[Path]:
    for unit in units:
        if unit.is_file() and "\n[Install]\n" in unit.read_text("utf-8"):
            yield unit


def _build_now_option(unit: Path) -> list[str]:
    """Return ``--now`` for sockets; services start at the next boot or when a user starts them."""
    return ["--now"] if unit.suffix == ".socket" and SYSTEMD_BOOTED_PATH.is_dir() else []


def _is_enabled(name: str) -> bool:
    command = ["systemctl", "is-enabled", "--quiet", name]
    return run_systemctl(command, build_minimal_environment(), SYSTEMCTL_S).status == 0


def _is_disabled(name: str) -> bool:
    return not _is_enabled(name)


@dataclass(frozen=True)
class InstallationPart:
    """One part of an installation.

    Attributes:
        description: Description for the list of parts.
        is_present: Returns whether the part is complete.
        create: Creates the part; may be repeated.
    """

    description: LazyText
    is_present: Callable[[], bool]
    create: Callable[[], object]


def list_missing(parts: Iterable[InstallationPart]) -> tuple[InstallationPart, ...]:
    """Return the parts that are not complete."""
    return tuple(part for part in parts if not part.is_present())


def create_missing(
    parts: Iterable[InstallationPart], progress: ProgressListener
) -> tuple[InstallationPart, ...]:
    """Create the incomplete parts in order and return them.

    Raises:
        INSTALL_FAILED: If the system refuses a part; the parts before it remain.
        UpdaterError: If a part itself reports an error.
    """
    done = []
    for part in parts:
        if part.is_present():
            continue
        progress.report(part.description)
        try:
            part.create()
        except OSError as error:
            raise UpdaterError(
                INSTALL_FAILED,
                part=part.description,
                reason=error.strerror or str(error),
                detail=str(error),
            ) from error
        done.append(part)
    return tuple(done)


def build_directory_part(description: LazyText, path: Path, mode: int) -> InstallationPart:
    """Return the part for a directory; an existing one keeps its mode."""

    def make() -> None:
        durable.make_directory(path.parent)
        path.mkdir(mode=mode, exist_ok=True)
        path.chmod(mode)
        durable.fsync_directory(path.parent)

    return InstallationPart(description, path.is_dir, make)


def build_file_part(
    description: LazyText, path: Path, content: bytes, mode: int
) -> InstallationPart:
    """Return the part for a file with this content."""

    def make() -> None:
        durable.make_directory(path.parent)
        durable.write_file(path, content, mode)
        path.chmod(mode)

    return InstallationPart(
        description, lambda: path.is_file() and path.read_bytes() == content, make
    )


def build_link_part(description: LazyText, path: Path, target: Path) -> InstallationPart:
    """Return the part for a symbolic link."""

    def make() -> None:
        durable.make_directory(path.parent)
        durable.replace_symlink(target, path)

    return InstallationPart(
        description, lambda: path.is_symlink() and path.readlink() == target, make
    )


def build_command_part(
    description: LazyText, command_line: Sequence[str], is_present: Callable[[], bool]
) -> InstallationPart:
    """Return the part for a system command."""

    def make() -> None:
        result = run_systemctl(command_line, build_minimal_environment(), COMMAND_TIMEOUT_S)
        if result.status is None:
            raise UpdaterError(
                INSTALL_FAILED,
                part=description,
                reason=LazyText("'{command}' timed out", {"command": command_line[0]}),
            )
        if result.status != 0:
            raise UpdaterError(INSTALL_FAILED, part=description, reason=result.output[-500:])

    return InstallationPart(description, is_present, make)


def build_removal_part(description: LazyText, path: Path) -> InstallationPart:
    """Return the part that removes a path."""

    def make() -> None:
        if path.is_symlink() or not path.is_dir():
            durable.remove_file(path)
        else:
            shutil.rmtree(path)
            durable.fsync_directory(path.parent)

    return InstallationPart(description, lambda: not (path.exists() or path.is_symlink()), make)
