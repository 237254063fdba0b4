"""Installing the agent on a server, and taking it away again, as lists of parts.

Everything is below one root, so that it can be tried without rights. What only the system itself
has (users, groups, units) is a part only where the root is ``/`` and the user is root.
"""

from __future__ import annotations

import contextlib
import grp
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ncen_updater.agent.adapters.application.process import minimal_environment
from ncen_updater.agent.adapters.application.systemctl import run_systemctl
from ncen_updater.agent.config.loader import load_config
from ncen_updater.agent.config.model import PathSettings
from ncen_updater.agent.config.service import ServiceSettings
from ncen_updater.agent.engine.lock import change_lock
from ncen_updater.agent.model.errors import Busy
from ncen_updater.agent.model.names import JOURNAL, LOCK, SERVICE_LOCK
from ncen_updater.agent.self_update import installation_parts as part
from ncen_updater.agent.self_update.after_confirmation import FAILSAFE, failsafe_content
from ncen_updater.agent.self_update.installation_parts import InstalledPart
from ncen_updater.agent.self_update.slots import PROGRAM, AgentSlots, require_release
from ncen_updater.agent.storage.agent_selection import SequenceFile, TrialState, first
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common import atomic_files as durable
from ncen_updater.common.canonical_json import sha256_hex
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import (
    AGENT_RELEASE_UNUSABLE,
    CAME_WITH_PACKAGE,
    CHANGE_STILL_OPEN,
    ROOT_ALREADY_INSTALLED,
    ROOT_UNUSABLE,
    SERVICE_STILL_RUNS,
)
from ncen_updater.common.progress import Progress
from ncen_updater.formats.manifest import load_manifest
from ncen_updater.formats.tuf_names import AGENT_PRODUCT, REQUIREMENTS

UNITS = "units"
#: Where the system looks for what comes in ``units``, by the end of its name.
UNIT_PLACES = {".sysusers": Path("etc/sysusers.d"), ".tmpfiles": Path("etc/tmpfiles.d")}
UNITS_PLACE = Path("etc/systemd/system")
PROGRAM_PLACE = Path("usr/local/bin") / PROGRAM
#: Where a package of the system has the unit without which the application does not start.
PACKAGED_UNIT = Path("usr/lib/systemd/system/ncen-updater-resume.service")


@dataclass(frozen=True)
class InstallOrder:
    """What is installed where.

    Attributes:
        root: Everything is below it.
        config: The configuration; made from ``settings`` where it is not there yet.
        release: An unpacked release of the agent.
        trusted_root: The root that the Secretariat handed over; None where one is installed.
        settings: Text of a first configuration.
        python: The interpreter that slots are made with; that of this program by default.
    """

    root: Path
    config: Path
    release: Path
    trusted_root: Path | None = None
    settings: str | None = None
    python: Path | None = None

    @property
    def system(self) -> bool:
        """Whether this is the machine itself."""
        return self.root == Path("/") and os.geteuid() == 0

    def paths(self) -> PathSettings:
        """The places, by the configuration where there is one."""
        return (
            load_config(self.config).paths if self.config.exists() else PathSettings(root=self.root)
        )


def check_root(path: Path) -> bytes:
    """Return a trusted root, checked against itself.

    Raises:
        RootUnusable: If it is none, or not signed by its own keys.
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
                reason=Text("it is '{type}'", {"type": metadata.signed.type}),
            )
        metadata.verify_delegate("root", metadata)
    except (OSError, RepositoryError, ValueError) as error:
        raise UpdaterError(ROOT_UNUSABLE, path=path, reason=str(error)) from error
    return content


def install_parts(order: InstallOrder, progress: Progress) -> tuple[InstalledPart, ...]:
    """Return everything that belongs to an installation, in order.

    Raises:
        AgentReleaseUnusable: If the directory is no release of the agent.
        RootUnusable, RootAlreadyInstalled: If the root cannot be taken.
        ConfigError: If a configuration is there and has mistakes.
    """
    require_release(order.release)
    manifest = load_manifest(order.release / "manifest.toml")
    if manifest.product != AGENT_PRODUCT:
        raise UpdaterError(
            AGENT_RELEASE_UNUSABLE,
            path=order.release,
            reason=Text("it is {product}", {"product": manifest.product}),
        )
    paths = order.paths()
    agent = paths.resolve(paths.agent)
    return (
        *(_groups() if order.system else ()),
        *_places(order, paths),
        *_root(order, paths),
        *_settings(order),
        _slot(order, agent, manifest.version, progress),
        _choice(agent, manifest.version),
        _failsafe(agent),
        part.link(
            Text(N_("the command {name}"), {"name": PROGRAM}),
            order.root / PROGRAM_PLACE,
            agent / "current/bin" / PROGRAM,
        ),
        *_units(order),
    )


def _groups() -> Iterator[InstalledPart]:
    """The groups of the configuration; users of units come with these."""
    service = ServiceSettings()
    for name in sorted({service.read_group, service.operate_group, service.approve_group}):
        what = Text(N_("the group {name}"), {"name": name})
        yield part.command(what, ["groupadd", "--system", name], partial(_known, name))


def _known(group: str) -> bool:
    try:
        grp.getgrnam(group)
    except KeyError:
        return False
    return True


def _places(order: InstallOrder, paths: PathSettings) -> Iterator[InstalledPart]:
    trust = paths.resolve(paths.trusted_root).parent
    for path, mode in (
        (order.config.parent, 0o750),
        (order.config.parent / "hooks", 0o750),
        (trust, 0o750),
        (paths.resolve(paths.state), 0o750),
        (paths.resolve(paths.slots), 0o755),
        (paths.resolve(paths.agent), 0o755),
        (order.root / "run/ncen", 0o755),
    ):
        yield part.directory(Text(N_("the directory {path}"), {"path": path}), path, mode)


def _root(order: InstallOrder, paths: PathSettings) -> Iterator[InstalledPart]:
    place = paths.resolve(paths.trusted_root)
    if order.trusted_root is None:
        if not place.exists():
            raise UpdaterError(
                ROOT_UNUSABLE, path=place, reason="it is not there, and none was named"
            )
        return
    content = check_root(order.trusted_root)
    if place.exists() and place.read_bytes() != content:
        raise UpdaterError(ROOT_ALREADY_INSTALLED, path=place)
    values = {"path": place, "digest": sha256_hex(content)}
    yield part.file(
        Text(N_("the trusted root {path} (SHA-256 {digest})"), values), place, content, 0o644
    )


def _settings(order: InstallOrder) -> Iterator[InstalledPart]:
    if order.settings is None:
        return
    content = order.settings.encode()

    def make() -> None:
        trial = order.config.with_name(f".{order.config.name}.trial")
        durable.write(trial, content, 0o640)
        try:
            load_config(trial)
        except BaseException:
            durable.remove(trial)
            raise
        durable.rename(trial, order.config)

    yield InstalledPart(
        Text(N_("the configuration {path}"), {"path": order.config}), order.config.exists, make
    )


def _slot(order: InstallOrder, agent: Path, version: str, progress: Progress) -> InstalledPart:
    slots = AgentSlots(agent, order.python)
    # Every wheel is in it by its digest, the agent's own too.
    digest = sha256_hex((order.release / REQUIREMENTS).read_bytes())

    def fill(place: Path) -> None:
        shutil.copytree(order.release, place, dirs_exist_ok=True)

    return InstalledPart(
        Text(N_("the slot of agent {version}"), {"version": version}),
        lambda: slots.made_from(version) == digest and slots.works(version),
        lambda: slots.build(version, digest, fill, progress),
    )


def _choice(agent: Path, version: str) -> InstalledPart:
    sequence = SequenceFile(agent)

    def chosen() -> bool:
        found = sequence.load()
        link = agent / "current"
        return found is not None and found.current == version and link.is_symlink()

    return InstalledPart(
        Text(N_("the choice of agent {version}"), {"version": version}),
        chosen,
        lambda: sequence.update(lambda before: first(before, version)),
    )


def _failsafe(agent: Path) -> InstalledPart:
    """The failsafe; while an agent is on trial the one that is there stays, see ``keeping``."""
    made = part.file(Text(N_("the failsafe")), agent / FAILSAFE, failsafe_content(), 0o755)

    def is_there() -> bool:
        found = SequenceFile(agent).load()
        on_trial = found is not None and found.state is TrialState.TRYING
        return made.is_there() or (on_trial and (agent / FAILSAFE).exists())

    return InstalledPart(made.what, is_there, made.make)


def _units(order: InstallOrder) -> Iterator[InstalledPart]:
    units = sorted((order.release / UNITS).glob("*")) if (order.release / UNITS).is_dir() else []
    changed = []
    for unit in units:
        place = unit_place(order.root, unit)
        what = Text(N_("the unit {name}"), {"name": place.name})
        made = part.file(what, place, unit.read_bytes(), 0o644)
        changed.append(made.is_there())
        yield made
    if order.system and not all(changed):
        what = Text(N_("systemd reads its units again"))
        for words in (["systemd-sysusers"], ["systemd-tmpfiles", "--create"]):
            if shutil.which(words[0]):
                yield part.command(what, words, lambda: False)
        if SYSTEMD_RUNS.is_dir():
            yield part.command(what, ["systemctl", "daemon-reload"], lambda: False)
    if order.system and shutil.which("systemctl"):
        yield from enabling(units)


def unit_place(root: Path, unit: Path) -> Path:
    """Where a file of ``units`` goes."""
    if unit.suffix in UNIT_PLACES:
        return root / UNIT_PLACES[unit.suffix] / f"{unit.stem}.conf"
    return root / UNITS_PLACE / unit.name


# ---- taking it away ------------------------------------------------------------------------------


def refuse_package(root: Path) -> None:
    """Leave to a package of the system what it brought: its units would stay, and fail.

    Raises:
        UpdaterError: If it came with one.
    """
    if (root / PACKAGED_UNIT).exists():
        raise UpdaterError(CAME_WITH_PACKAGE, path=root / PACKAGED_UNIT)


@contextlib.contextmanager
def nothing_at_work(state: Path) -> Iterator[None]:
    """Keep changes away while the agent is taken away.

    Raises:
        ChangeStillOpen: If one is open.
        Busy: If one is at work.
        ServiceStillRuns: If the service runs.
    """
    if not state.is_dir():
        yield
        return
    with contextlib.ExitStack() as stack:
        stack.enter_context(change_lock(state / LOCK, "uninstall"))
        try:
            stack.enter_context(change_lock(state / SERVICE_LOCK, "uninstall"))
        except Busy as error:
            raise UpdaterError(SERVICE_STILL_RUNS) from error
        if (state / JOURNAL).exists():
            with Journal.open(state / JOURNAL, read_only=True) as journal:
                change = journal.open_change()
            if change is not None:
                raise UpdaterError(CHANGE_STILL_OPEN, change=change.id)
        yield


def uninstall_parts(root: Path, config: Path, *, purge: bool) -> tuple[InstalledPart, ...]:
    """Return everything that goes; the application, its slots and its databases never do.

    Args:
        root: Everything is below it.
        config: The configuration.
        purge: Whether journal, lists and configuration go, too.

    Raises:
        ConfigError: If the configuration cannot be read: then it is not known what belongs to it.
    """
    paths = load_config(config).paths if config.exists() else PathSettings(root=root)
    agent = paths.resolve(paths.agent)
    units = sorted((agent / "current/release" / UNITS).glob("*"))
    gone = [unit_place(root, unit) for unit in units]
    gone.append(root / PROGRAM_PLACE)
    if purge:
        gone += [paths.resolve(paths.state), config.parent]
    gone.append(agent)
    there = [unit_place(root, unit) for unit in units]
    system = root == Path("/") and os.geteuid() == 0 and shutil.which("systemctl") is not None
    return (
        *(disabling(there) if system else ()),
        *(part.removal(Text(N_("remove {path}"), {"path": path}), path) for path in gone),
    )


# ---- units that systemd starts by itself ---------------------------------------------------------
#
# Enabled with the agent, disabled before its files go. A link that names a unit which is no more
# would keep the application from starting, since it waits for the unit that resumes. Without that
# link, an upgrade that a power cut interrupted would not be brought to its end before the
# application works again.

SYSTEMD_RUNS = Path("/run/systemd/system")  # sd_booted(3)
SYSTEMCTL_S = 60
#: In a unit that a site switches on itself: what begins with X- is for us, systemd.unit(5).
OPTIONAL = "\n[X-ncen-updater]\nOptional=yes\n"


def enabling(units: Iterable[Path]) -> Iterator[InstalledPart]:
    """Let systemd start by itself what is meant for that, and not only for sites that want it.

    Args:
        units: Unit files, in their places or still where they are taken from.
    """
    for unit in _startable(units):
        if OPTIONAL in unit.read_text("utf-8"):
            continue
        what = Text(N_("{name} starts by itself"), {"name": unit.name})
        words = ["systemctl", "enable", *_at_once(unit), unit.name]
        yield part.command(what, words, partial(_enabled, unit.name))


def disabling(units: Iterable[Path]) -> Iterator[InstalledPart]:
    """The opposite. The unit that resumes is not stopped: the application would end with it.

    Args:
        units: Unit files that are about to go.
    """
    for unit in _startable(units):
        what = Text(N_("{name} starts no more by itself"), {"name": unit.name})
        words = ["systemctl", "disable", *_at_once(unit), unit.name]
        yield part.command(what, words, partial(_disabled, unit.name))


def _startable(units: Iterable[Path]) -> Iterator[Path]:
    for unit in units:
        if unit.is_file() and "\n[Install]\n" in unit.read_text("utf-8"):
            yield unit


def _at_once(unit: Path) -> list[str]:
    """Sockets wait at once; services when a person or the next start of the machine says so."""
    return ["--now"] if unit.suffix == ".socket" and SYSTEMD_RUNS.is_dir() else []


def _enabled(name: str) -> bool:
    words = ["systemctl", "is-enabled", "--quiet", name]
    return run_systemctl(words, minimal_environment(), SYSTEMCTL_S).status == 0


def _disabled(name: str) -> bool:
    return not _enabled(name)
