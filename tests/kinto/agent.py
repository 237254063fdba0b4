"""The agent at a Kinto site: its configuration, its operations, and what it left behind."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from packaging.version import Version

from ncen_updater.agent.adapters.feed_reader.feed_factory import make_release_source
from ncen_updater.agent.config.loader import load_config
from ncen_updater.agent.engine.adopt import adopt_site
from ncen_updater.agent.engine.operations import Operations
from ncen_updater.agent.engine.site import Site
from ncen_updater.agent.engine.site_factory import build_site
from ncen_updater.agent.model.change import Change, StepName, StepPhase
from ncen_updater.agent.model.change_facts import ChangeFacts
from ncen_updater.agent.model.event_names import JOURNAL_FILE
from ncen_updater.agent.reports.diagnostics.verify import verify_site
from ncen_updater.agent.storage.journal.journal import Journal
from ncen_updater.common.findings import Finding
from ncen_updater.common.progress import SilentProgress
from ncen_updater.publisher.feed.feed_directory import FeedDirectory
from ncen_updater.publisher.new.trial import create_feed, create_keys, publish_draft
from ncen_updater.publisher.signing.draft import draft_releases
from tests.kinto.site import AGENT, CONTROL_DATABASE, DATABASES, OWNER, KintoSite

Moment = tuple[StepName, StepPhase]


def make_kinto_feed(directory: Path, staging: Path) -> Path:
    """Make a feed of one product, ``kinto``, with what was built; two of three signers sign."""

    def now() -> datetime:
        return datetime.now(UTC)

    keys = create_keys(directory / "keys", "a long pass phrase")
    feed = directory / "feed"
    create_feed(feed, keys, now, products=("kinto",))
    publish_draft(
        feed, draft_releases(FeedDirectory(feed).read_state(), staging, now()), keys, now, [staging]
    )
    return feed


@dataclass
class KintoAgent:
    """The agent of one site.

    Attributes:
        dumps: Dumps of the live databases, by the moment of the last change.
        watched: Moments at which dumps are made.
    """

    kinto: KintoSite
    site: Site
    watched: frozenset[Moment]
    dumps: dict[Moment, dict[str, str]] = field(default_factory=dict)

    @classmethod
    def take_over(
        cls,
        kinto: KintoSite,
        feed: Path,
        address: str,
        version: str,
        watched: frozenset[Moment] = frozenset(),
        health_s: int = 60,
    ) -> KintoAgent:
        """Write ``agent.toml`` and adopt the site, whose application may run or not.

        Args:
            kinto: A site of this version that was installed by hand.
            feed: Directory of the feed, for the trusted root.
            address: Where the feed is served.
            version: What is installed.
            watched: Moments at which the databases are dumped.
            health_s: How long a release may take until it is healthy, in seconds.
        """
        root = kinto.home
        config_path = root / "etc/ncen-updater/agent.toml"
        trusted_root = root / "etc/ncen-updater/trust/root.json"
        for place in (trusted_root.parent, root / "var/lib/ncen-updater", root / "opt/kinto/slots"):
            place.mkdir(parents=True)
        shutil.copyfile(feed / "metadata/1.root.json", trusted_root)
        config_path.write_text(_agent_toml(kinto, address, health_s), "utf-8")
        config_path.chmod(0o600)
        config = load_config(config_path)
        state = config.paths.resolve(config.paths.state)
        source = make_release_source(
            config.site.product, config.feed, state=state, trusted_root=trusted_root
        )
        agent = cls(kinto, build_site(config, config_path, source=source), watched)
        adopt_site(agent.site, Version(version), SilentProgress(), confirmed=True)
        return agent

    def operations(self) -> Operations:
        """The operations; the databases are dumped at the watched moments."""
        return Operations(self.site, SilentProgress(), checkpoint=self._checkpoint)

    def _checkpoint(self, step: StepName, phase: StepPhase) -> None:
        if (step, phase) in self.watched:
            self.dumps[step, phase] = self.kinto.dumps()

    def verify(self) -> tuple[Finding, ...]:
        """Compare reality with the journal."""
        with Journal.open(self.site.state_directory / JOURNAL_FILE, read_only=True) as journal:
            return verify_site(self.site, journal, SilentProgress())

    def history(self) -> tuple[Change, ...]:
        """Every change, newest first."""
        with Journal.open(self.site.state_directory / JOURNAL_FILE, read_only=True) as journal:
            return journal.list_changes()

    def facts(self, change: Change) -> ChangeFacts:
        """What the journal keeps of a change."""
        with Journal.open(self.site.state_directory / JOURNAL_FILE, read_only=True) as journal:
            return journal.read_facts(change.id)


def _agent_toml(kinto: KintoSite, address: str, health_s: int) -> str:
    def command(word: str) -> str:
        return json.dumps(kinto.command(word))

    names = "\n".join(f'{name} = "{database}"' for name, database in DATABASES.items())
    return f"""schema = 1

[site]
id = "kinto-trial"
country = "MU"
product = "kinto"

[paths]
root = "{kinto.home}"
slots = "opt/kinto/slots"
current = "current"

[feed]
urls = ["{address}"]

[databases]
engine = "postgresql"

[databases.names]
{names}

[databases.postgresql]
host = "{kinto.server.host}"
port = {kinto.server.port}
user = "{AGENT}"
owner = "{OWNER}"
control_database = "{CONTROL_DATABASE}"

[application]
adapter = "command"
start = {command("start")}
stop = {command("stop")}
status = {command("status")}
stop_timeout_s = 30
health_url = "http://127.0.0.1:{kinto.port}"
health_path = "/v1/"
version_field = "project_version"
health_timeout_s = {health_s}
probe_timeout_s = 2
maintenance_file = "{kinto.home}/door-closed"

[soak]
seconds = 0.5
interval_s = 0.2
"""
