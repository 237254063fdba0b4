"""Digest to which an approval is bound, taken from the current state of the site."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from ncen_updater.agent.engine.approvals.approval import ApprovalBasis
from ncen_updater.common.json_output import compute_sha256, encode_canonical_json

if TYPE_CHECKING:
    from ncen_updater.agent.engine.site import Site

#: The tables of the configuration that an upgrade depends on. Where the feed is, and when the
#: service works, may change without anybody approving again: what is installed is signed.
DIGESTED_SETTINGS = ("site", "paths", "databases", "overlay", "application", "soak", "retention")


def compute_configuration_digest(site: Site) -> str:
    """Return the digest of the settings that an upgrade depends on."""
    # Whom to ask is nothing that an upgrade depends on.
    data = site.config.model_dump(
        mode="json", include=set(DIGESTED_SETTINGS), exclude={"site": {"contact"}}
    )
    return compute_sha256(encode_canonical_json(data))


def compute_approval_basis(
    site: Site, plan: str, rehearsal: str, at: datetime | None
) -> ApprovalBasis:
    """Return what would be approved now; reads the live databases.

    Args:
        site: The site.
        plan: Digest of the plan.
        rehearsal: What names a rehearsal and its report; empty where there is none.
        at: When it was rehearsed or planned.

    Raises:
        UpdaterError: If a database cannot be read.
    """
    from ncen_updater.agent.adapters.databases.base import LiveDatabase

    engine = site.database_engine
    return ApprovalBasis(
        plan=plan,
        schemas={n: engine.compute_fingerprint(LiveDatabase(n)) for n in engine.names},
        configuration=compute_configuration_digest(site),
        rehearsal=rehearsal,
        sizes={facts.name: facts.size_bytes for facts in engine.describe_databases()},
        rehearsed_at=at,
    )
