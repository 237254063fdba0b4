"""Page *Approve*: the dossier, its digest, the approvals given, and the approval form."""

from __future__ import annotations

import base64
import hashlib
import re

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.labels import format_upgrade_start
from ncen_updater.common.messages import CONSOLE_NO_PAGE
from ncen_updater.console.page_request import PageContent, PageRequest
from ncen_updater.console.pages.upgrade import (
    format_downtime,
    has_failed_here,
    inspect_site,
)
from ncen_updater.console.rendering import FileResponse

_STYLE = re.compile(rb"<style>(.*?)</style>", re.DOTALL)


def build_page(asking: PageRequest) -> PageContent:
    """Build the approval page."""
    status, next_upgrade = asking.get_status(), asking.get_document("/v1/next-upgrade")
    values = {"status": status, "next_upgrade": next_upgrade}
    if (
        next_upgrade.get("open_change")
        or next_upgrade["target"] is None
        or not next_upgrade["binding"]
    ):
        return PageContent("approve", {**values, "looked": None}, "empty")
    looked = inspect_site(asking, "dossier", status, next_upgrade)
    uid = status["you"]["uid"]
    found = looked.document
    return PageContent(
        "approve",
        {
            **values,
            "looked": looked,
            "stop": format_downtime(found["downtime_s"]) if found else None,
            # The form is shown only if the dossier has the binding that would be approved.
            "same": found is not None and found["binding"] == next_upgrade["binding"],
            "mine": any(given["uid"] == uid for given in next_upgrade["approvals"]),
            "may": asking.find_missing_role("approve"),
            "failed_here": has_failed_here(next_upgrade, status["journal"]),
            "then": format_upgrade_start(
                next_upgrade["starts_at_if_approved" if next_upgrade["missing"] else "starts_at"],
                asking.zone,
            ),
        },
        "loading" if looked.is_loading else "stale" if looked.stale else "ready",
        refresh_s=2 if looked.is_loading else 0,
    )


def get_dossier_file(asking: PageRequest) -> FileResponse:
    """Return the dossier as an HTML file, as it is printed and signed."""
    status, next_upgrade = asking.get_status(), asking.get_document("/v1/next-upgrade")
    looked = inspect_site(asking, "dossier", status, next_upgrade)
    if looked.document is None:
        raise UpdaterError(CONSOLE_NO_PAGE, path="/dossier")
    content = str(looked.document["html"]).encode()
    return FileResponse(
        content,
        "text/html; charset=utf-8",
        content_security_policy=_build_policy(content),
        allows_framing=True,
    )


def _build_policy(content: bytes) -> str:
    """Return a policy that allows only the inline styles of the document, by their digests."""
    digests = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(style).digest()).decode()}'"
        for style in _STYLE.findall(content)
    )
    sources = digests or "'none'"
    return (
        f"default-src 'none'; style-src {sources}; frame-ancestors 'self'; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; "
        "trusted-types 'none'"
    )
