"""*Approve*: the dossier itself, its digest, who has said yes, and the yes."""

from __future__ import annotations

import base64
import hashlib
import re

from ncen_updater.common.errors import UpdaterError
from ncen_updater.common.messages import CONSOLE_NO_PAGE
from ncen_updater.console.asking import Asking, ShownPage
from ncen_updater.console.pages.files import File
from ncen_updater.console.pages.upgrade import begins_words, mark_of, span

_STYLE = re.compile(rb"<style>(.*?)</style>", re.DOTALL)


def page(asking: Asking) -> ShownPage:
    """What is to be decided."""
    status, outlook = asking.status(), asking.get("/v1/outlook")
    values = {"status": status, "outlook": outlook}
    if outlook.get("open_change") or outlook["target"] is None or not outlook["binding"]:
        return ShownPage("approve", {**values, "looked": None}, "empty")
    looked = asking.look("dossier", mark_of(status, outlook))
    uid = status["you"]["uid"]
    found = looked.found
    return ShownPage(
        "approve",
        {
            **values,
            "looked": looked,
            "stop": span(found["facts"]["stop_s"]) if found else None,
            # What is shown is what is approved, or nobody is asked.
            "same": found is not None and found["binding"] == outlook["binding"],
            "mine": any(given["uid"] == uid for given in outlook["approvals"]),
            "may": asking.may("approve"),
            "then": begins_words(outlook["begins_after_yes"], asking.zone),
        },
        "loading" if looked.loading else "stale" if looked.stale else "ready",
        again_s=2 if looked.loading else 0,
    )


def dossier(asking: Asking) -> File:
    """The page of the dossier, as it is printed and signed."""
    status, outlook = asking.status(), asking.get("/v1/outlook")
    looked = asking.look("dossier", mark_of(status, outlook))
    if looked.found is None:
        raise UpdaterError(CONSOLE_NO_PAGE, path="/dossier")
    content = str(looked.found["html"]).encode()
    return File(content, "text/html; charset=utf-8", policy=_policy(content), framed=True)


def _policy(content: bytes) -> str:
    """Allow the styles that stand in the page, by their digests, and nothing else."""
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
