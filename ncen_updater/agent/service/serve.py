"""The process of the service: puts the loop together and keeps it going until it is told to end."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

from ncen_updater.agent.config.errors import ConfigError
from ncen_updater.agent.config.loader import load_config
from ncen_updater.agent.config.model import AgentConfig
from ncen_updater.agent.config.paths import load_places
from ncen_updater.agent.engine.lock import change_lock
from ncen_updater.agent.engine.site import Clock
from ncen_updater.agent.model.change import ChangeState
from ncen_updater.agent.model.names import AGENT_CONFIRMED, JOURNAL, SERVICE_LOCK
from ncen_updater.agent.policy.automation import Action, ActionFailure, ServiceDecision
from ncen_updater.agent.policy.ought_to_run import RunningSeen
from ncen_updater.agent.policy.schedule import next_check
from ncen_updater.agent.reports.status import changed_at, read_status
from ncen_updater.agent.self_update.directory_writer import own_doer
from ncen_updater.agent.self_update.trial import Probation
from ncen_updater.agent.service.api.server import start_api
from ncen_updater.agent.service.inspecting import Inspections
from ncen_updater.agent.service.loop import LOOK, Schedule, Service, keep
from ncen_updater.agent.service.runner import WorkRunner
from ncen_updater.agent.service.snapshot import ServiceEvent, ServiceSnapshots
from ncen_updater.agent.service.systemd_notify import SystemdNotifier
from ncen_updater.agent.service.waker import Waker
from ncen_updater.agent.storage.agent_selection import SequenceFile
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.agent.storage.journal.orders import JournalOrders
from ncen_updater.agent.storage.service_state import SERVICE_STATE, ServiceState, ServiceStateFile
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_, Text
from ncen_updater.common.messages import RUNNER_DOES_NOT_FIT

logger = logging.getLogger(__name__)

#: Variable with which the unit of the package says that others do the work.
RUNNER = "NCEN_RUNNER"

#: Commands whose copies and cut-over want the databases for themselves.
DISTURBED = frozenset({"upgrade", "rollback", "resume"})
#: Between two acts, so that no mistake can make the service spin.
PAUSE_S = 0.5
#: How long to wait where the machine refused what a step needs, such as room on a disk.
AGAIN_S = 60

Listener = Callable[[ServiceEvent], None]


def _now() -> datetime:
    return datetime.now(UTC)


def schedule_for(config: AgentConfig) -> Schedule:
    """Return when the feed is asked next, for one site.

    A question that was not answered is repeated after delays that grow, so that a feed that is away
    for half a day does not meet every site every ten minutes; the site's own place in the interval
    keeps thousands of sites apart all the same.
    """

    def schedule(now: datetime, failure: ActionFailure | None) -> datetime:
        interval = timedelta(hours=config.service.check_hours)
        regular = next_check(now, now, interval, config.site.id)
        return min(regular, failure.again_at(Action.CHECK)) if failure else regular

    return schedule


def caught_up(service_state: ServiceState, config: AgentConfig, now: datetime) -> ServiceState:
    """Return it with a question that was missed put a little off, for each site by another time.

    Many machines may be switched on at eight, or come back together after a power cut. Pure.
    """
    if service_state.next_check is None or service_state.next_check > now:
        return service_state
    interval = timedelta(hours=config.service.check_hours)
    return replace(service_state, next_check=next_check(now, None, interval, config.site.id))


def serve(
    config_path: Path,
    *,
    listeners: tuple[Listener, ...] = (),
    in_force: Path | None = None,
) -> None:
    """Be the service until a signal ends it.

    Args:
        config_path: The configuration file; read again at SIGHUP.
        listeners: Told what happens; one that fails is logged and does not stop the service.
        in_force: The configuration to begin with, where that file has a mistake: as when it is read
            again, the one before stays in force, and nothing new is begun by the one that is wrong.

    Raises:
        UpdaterError: If the configuration cannot be used, another service runs, or this agent is
            new and could not confirm itself.
    """
    usable = in_force or config_path
    config = load_config(usable, look=in_force is None)
    if config.service.runner == "process" and os.environ.get(RUNNER) == "systemd":
        raise ConfigError(RUNNER_DOES_NOT_FIT, path=config_path)
    state = config.paths.resolve(config.paths.state)
    notifier = SystemdNotifier()
    places = replace(load_places(usable), config=config_path)
    waker = Waker(notifier.alive, lambda: changed_at(state / JOURNAL))
    snapshots = ServiceSnapshots(config.service, _now)
    by_unit = config.service.runner == "systemd"
    socket = config.paths.resolve(config.service.apply_socket) if by_unit else None
    renew = config.paths.resolve(config.service.renew_socket) if by_unit else None
    runner = WorkRunner(
        config_path, socket, notifier.alive, lambda: waker.stopping, snapshots, renew
    )
    orders = JournalOrders(state / JOURNAL)

    def tell(happening: ServiceEvent) -> None:
        for listener in (snapshots.tell, *listeners):
            try:
                listener(happening)
            except Exception:
                logger.exception("a listener failed", extra={"happening": happening.kind})

    with (
        change_lock(state / SERVICE_LOCK, "service"),
        waker.handling_signals(),
    ):
        probation = _probation(config, runner, notifier.alive)
        keeper = ServiceStateFile(state / SERVICE_STATE)
        # Written down, so that a service that is started again and again does ask in the end.
        keep(keeper, caught_up(keeper.load(), config, _now()))
        service = Service(
            config.service,
            look=lambda: read_status(places, _now(), LOOK),
            keeper=keeper,
            orders=orders,
            runner=runner,
            schedule=schedule_for(config),
            now=_now,
            tell=tell,
            on_trial=lambda: probation.on_trial,
            running=lambda: _running(config_path),
            boot=Clock().boot,
        )
        _end_torn(orders)
        inspections = Inspections(runner, _now, _in_the_way(snapshots, state / JOURNAL))
        stop_api = start_api(
            config_path, config, snapshots=snapshots, keeper=keeper, wake=waker.wake, now=_now,
            inspections=inspections, places=places,
        )  # fmt: skip
        try:
            notifier.ready()
            tell(ServiceEvent("started", {}))
            _loop(service, waker, notifier, probation, snapshots, orders, config_path)
        finally:
            notifier.stopping()
            stop_api()
            waker.close()


def _in_the_way(snapshots: ServiceSnapshots, journal_path: Path) -> Callable[[], bool]:
    """Return what says whether work goes on that reads of the site would stand in the way of.

    That is what the service carries out itself, and a change that anybody else began: the databases
    are closed to every session then. Not while a release is only watched.
    """
    changed, opened, watched = -1, False, False

    def in_the_way() -> bool:
        nonlocal changed, opened, watched
        running = snapshots.latest().running
        works = running is not None and running.words[0] in DISTURBED
        works = works and running is not None and "--dry-run" not in running.words
        now = changed_at(journal_path)
        if now != changed:
            try:
                with Journal.open(journal_path, read_only=True) as journal:
                    change = journal.open_change()
            except UpdaterError:  # who inspects says what is wrong with it
                return works
            opened = change is not None and change.state is not ChangeState.STUCK
            watched = change is not None and change.watched
            changed = now
        return (works or opened) and not watched

    return in_the_way


def _running(config_path: Path) -> RunningSeen | None:
    """Look whether the application runs; None where this process cannot tell."""
    from ncen_updater.agent.adapters.application.factory import make_application

    try:
        config = load_config(config_path)
        current = config.paths.resolve(config.paths.current)
        return make_application(config.application, current).seen()
    except (OSError, UpdaterError) as error:
        logger.debug("whether the application runs was not found out: %s", error)
        return None


def _end_torn(orders: JournalOrders) -> None:
    try:
        orders.end_torn()
    except UpdaterError as error:
        logger.warning("orders that were torn stay so for now: %s", error)


def _probation(config: AgentConfig, runner: WorkRunner, alive: Callable[[], None]) -> Probation:
    socket = config.paths.resolve(config.service.renew_socket)
    directory = config.paths.resolve(config.paths.agent)
    journal_path = config.paths.resolve(config.paths.state) / JOURNAL
    agent = version("ncen-updater")

    def note() -> None:
        with Journal.open(journal_path) as journal:
            journal.note(AGENT_CONFIRMED, version=agent)

    return Probation(
        SequenceFile(directory),
        agent,
        config.service.confirm_agent_s,
        in_reach=runner.in_reach,
        confirmed=note,
        do=own_doer(directory, socket, agent, _now, alive),
        monotonic=time.monotonic,
    )


def _loop(
    service: Service,
    waker: Waker,
    notifier: SystemdNotifier,
    probation: Probation,
    snapshots: ServiceSnapshots,
    orders: JournalOrders,
    config_path: Path,
) -> None:
    went_round = False
    while not waker.stopping:
        if waker.take_reload():
            notifier.reloading()
            _reload(service, snapshots, config_path)
            notifier.ready()
        notifier.alive()
        looked = waker.mark()
        act = _step(service, orders)
        notifier.status(act.why.render())
        waits = act.action is Action.WAIT and act.until is not None
        left = (act.until - _now()).total_seconds() if waits and act.until else 0.0
        verdict = probation.after_step()
        if verdict.leave:
            return
        if verdict.again_s is not None:
            left = min(left, verdict.again_s)
        went_round = True
        waker.sleep(max(left, PAUSE_S), looked if waits else None)
    if went_round:
        probation.told_to_end()


def _step(service: Service, orders: JournalOrders) -> ServiceDecision:
    """Do one thing, or wait where that cannot be done now: a full disk must not end the service.

    What was begun is in the journal; the next step finds it there.
    """
    if orders.torn:
        _end_torn(orders)
    try:
        return service.step()
    except (OSError, UpdaterError) as error:
        logger.error("the service goes on in %s s: %s", AGAIN_S, error)
        orders.torn = True
        words = Text(N_("the service could not work: {error}"), {"error": str(error)})
        return ServiceDecision(Action.WAIT, words, _now() + timedelta(seconds=AGAIN_S))


def _reload(service: Service, snapshots: ServiceSnapshots, config_path: Path) -> None:
    """Go on with a new configuration, or with the old one, and say why."""
    try:
        settings = load_config(config_path).service
        service.reload(settings)
        snapshots.reconfigure(settings)
    except UpdaterError as error:
        logger.error("the old configuration stays in force: %s", error)
    else:
        logger.info("the configuration was read again")
