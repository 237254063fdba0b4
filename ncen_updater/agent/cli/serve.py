"""``serve``: be the service of this site, until a signal ends it."""

from __future__ import annotations

import logging
import os

import click

from ncen_updater.agent.cli.common import agent_session
from ncen_updater.agent.cli.session import AgentSession
from ncen_updater.common.cli.lazy import Command
from ncen_updater.common.i18n import N_
from ncen_updater.common.messages import ExitCode


@click.command("serve", cls=Command, help=N_("Be the service of this site."))
@click.pass_context
def serve(context: click.Context) -> ExitCode:
    from ncen_updater.agent.self_update.uncounted_starts import excused

    session = agent_session(context)
    with excused(os.environ):
        _serve(session)
    return ExitCode.OK


def _serve(session: AgentSession) -> None:
    from ncen_updater.agent.config.noted_check import usable_config
    from ncen_updater.agent.notifications.thread import NotifierThread
    from ncen_updater.agent.service.serve import serve as be_the_service
    from ncen_updater.common.journald import install

    level = logging.DEBUG if session.verbose else logging.INFO
    session.masking = install(level, always=True)
    config, session.config = session.config, usable_config(session.config)
    session.learn_secrets()
    beside = NotifierThread(config)
    try:
        be_the_service(config, listeners=(beside.listen,), in_force=session.config)
    finally:
        beside.stop()
