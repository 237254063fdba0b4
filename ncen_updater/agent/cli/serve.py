"""``serve`` and ``console``: the service of a site, and the web console of one user.

Starts of a confirmed agent that fail for an external reason are not counted as failed. An invalid
configuration ends every agent at once: returning to an older agent would not help, and would mark
a working agent as bad. This does not apply to an agent on trial: the previous agent could read the
same configuration.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

import click

from ncen_updater.agent.cli.common import agent_command
from ncen_updater.agent.cli.session import AgentSession
from ncen_updater.agent.config.errors import ConfigError
from ncen_updater.agent.config.essential_settings import (
    load_essential_settings,
    read_service_socket,
    read_site_timezone,
)
from ncen_updater.agent.model.errors import LockUnusableError, SiteBusyError
from ncen_updater.agent.self_update.agent_directory import DirectoryAction, choose_action_handler
from ncen_updater.agent.storage.agent_selection import STARTED_BY, AgentSelectionFile
from ncen_updater.common.cli.lazy import IntegerRange
from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.i18n import N_
from ncen_updater.common.messages import ExitCode

logger = logging.getLogger(__name__)


@agent_command
def serve(session: AgentSession) -> ExitCode:
    with _excuse_start(os.environ):
        _run_service(session)
    return ExitCode.OK


def _run_service(session: AgentSession) -> None:
    from ncen_updater.agent.config.validation_cache import choose_usable_config
    from ncen_updater.agent.service.notifications.notifier import NotifierThread
    from ncen_updater.agent.service.serve import run_service
    from ncen_updater.common.journald import install_logging

    gc.set_threshold(700)  # unlike a command, the service runs for months
    level = logging.DEBUG if session.verbose else logging.INFO
    session.secret_filter = install_logging(level, always=True)
    config, session.config = session.config, choose_usable_config(session.config)
    session.mask_secrets()
    notifier = NotifierThread(config)
    try:
        run_service(config, listeners=(notifier.handle_event,), in_force=session.config)
    finally:
        notifier.stop()


@contextlib.contextmanager
def _excuse_start(environment: Mapping[str, str]) -> Iterator[None]:
    """Undo the count of this start if the block ends with an external error.

    Args:
        environment: Environment with the failsafe's variable.
    """
    try:
        yield
    except (ConfigError, SiteBusyError, LockUnusableError):
        directory = environment.get(STARTED_BY)
        if directory:
            _reset_start_counter(Path(directory))
        raise


def _reset_start_counter(directory: Path) -> None:
    # The configuration may be invalid: use the default path of the socket.
    from ncen_updater.agent.config.service import ServiceSettings

    socket = Path("/") / ServiceSettings.model_fields["renew_socket"].default
    own = version("ncen-updater")
    perform = choose_action_handler(directory, socket, own, lambda: datetime.now(UTC), lambda: None)
    try:
        if AgentSelectionFile(directory).load() is not None:
            perform(DirectoryAction.RESET_ATTEMPTS)
    except UpdaterError as error:
        logger.warning("the start counter was not reset: %s", error)


@agent_command
@click.option(
    "--port",
    type=IntegerRange(0, 65535),
    default=0,
    metavar="N",
    help=N_("Port on the loopback interface (default: any free port)"),
)
def console(session: AgentSession, port: int) -> NoReturn:
    load_essential_settings(session.config)  # reports an invalid file here
    zone, socket = read_site_timezone(session.config), read_service_socket(session.config)
    arguments = ["--socket", str(socket), "--port", str(port)]
    become_console(session, [*arguments, *(["--zone", str(zone)] if zone is not None else [])])


def become_console(session: AgentSession, arguments: Sequence[str]) -> NoReturn:
    """Replace this process by the console of the user, with these arguments and the session's."""
    arguments = [
        *arguments,
        "--language",
        session.language,
        *(["--json"] if session.as_json else []),
    ]
    sys.stdout.flush()
    # -I: import no modules from the current directory.
    os.execv(  # noqa: S606 - a program of ours, without a shell
        sys.executable,
        [sys.executable, "-I", "-m", "ncen_updater.console.local_console", *arguments],
    )
