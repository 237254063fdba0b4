"""*Proof*: whether the journal is whole, and what is there is what was recorded; who did what."""

from __future__ import annotations

from ncen_updater.console.page_request import PageContent, PageRequest
from ncen_updater.console.pages.jobs import JOB_KINDS

MAX_JOBS = 30


def build_page(asking: PageRequest) -> PageContent:
    """Return what can be proved."""
    status = asking.get_status()
    journal = status["journal"]
    mark = f"{journal.get('chain_head')}"
    chain = asking.inspect("audit-log", mark)
    # Everything takes longer, and is looked at where somebody asks for it.
    wanted = asking.query.get("look") == "verify"
    whole = asking.inspect("verify", mark) if wanted else None
    both = [one for one in (chain, whole) if one is not None]
    loading = any(one.is_loading for one in both)
    return PageContent(
        "audit-log",
        {
            "status": status,
            "chain": chain,
            "whole": whole,
            "kinds": JOB_KINDS,
            "orders": asking.get_document(f"/v1/orders?limit={MAX_JOBS}")["orders"],
        },
        "loading" if loading else "stale" if any(one.stale for one in both) else "ready",
        refresh_s=2 if loading else 0,
    )
