"""What one run of ``ncen-updater`` knows: the site, and what was known before it was touched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ncen_updater.common.cli.session import Session

if TYPE_CHECKING:
    from ncen_updater.agent.cli.state import SiteFacts
    from ncen_updater.agent.site import Site

__all__ = ["AgentSession"]


@dataclass
class AgentSession(Session):
    """A run of ``ncen-updater``.

    Attributes:
        site: The site, once a command needed it.
        before: What was known of it before the command touched it.
        adopting: Whether the command changes what no journal knows of yet.
    """

    site: Site | None = None
    before: SiteFacts | None = None
    adopting: bool = False

    def learn_secrets(self) -> None:
        """Keep what the configuration has of passwords out of the log."""
        if self.masking is not None:
            from ncen_updater.agent.config.read import read_config
            from ncen_updater.agent.config.secrets import secrets_of

            self.masking.learn(secrets_of(read_config(self.config).data))

    def open_site(self) -> Site:
        """Read the whole configuration and put the site together.

        Raises:
            ConfigError: If the configuration has mistakes.
        """
        from ncen_updater.agent.cli.state import look_lightly
        from ncen_updater.agent.composition import build_site
        from ncen_updater.agent.config.loader import load_config

        config = load_config(self.config)
        self.learn_secrets()
        self.before = look_lightly(self.config)
        self.site = build_site(config, self.config)
        return self.site
