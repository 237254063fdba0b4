"""What an approval is bound to, taken from the site as it is now."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from ncen_updater.agent.engine.approvals.model import ApprovalBasis
from ncen_updater.common.canonical_json import canonical_json, sha256_hex

if TYPE_CHECKING:
    from ncen_updater.agent.engine.site import Site

#: The tables of the configuration that an upgrade depends on. Where the feed is, and when the
#: service works, may change without anybody approving again: what is installed is signed.
TABLES = ("site", "paths", "databases", "overlay", "application", "soak", "keep")


def configuration_digest(site: Site) -> str:
    """Return the digest of the settings that an upgrade depends on."""
    # Whom to ask is nothing that an upgrade depends on.
    data = site.config.model_dump(mode="json", include=set(TABLES), exclude={"site": {"contact"}})
    return sha256_hex(canonical_json(data))


def basis_now(site: Site, plan: str, rehearsal: str, at: datetime | None) -> ApprovalBasis:
    """Return what would be approved now; reads the live databases.

    Args:
        site: The site.
        plan: Digest of the plan.
        rehearsal: What names a rehearsal and its report; empty where there is none.
        at: When it was rehearsed or planned.

    Raises:
        UpdaterError: If a database cannot be read.
    """
    from ncen_updater.agent.adapters.databases.base import Live

    engine = site.engine
    return ApprovalBasis(
        plan=plan,
        schemas={n: engine.fingerprint(Live(n)) for n in engine.names},
        configuration=configuration_digest(site),
        rehearsal=rehearsal,
        sizes={facts.name: facts.size_bytes for facts in engine.describe()},
        at=at,
    )
