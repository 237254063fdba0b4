"""The one error of the preflight. Codes 6300 to 6399; 6301 and on are those of findings."""

from __future__ import annotations

from collections.abc import Sequence

from ncen_updater.common.errors import ExitCode, UpdaterError
from ncen_updater.common.findings import Finding
from ncen_updater.common.i18n import N_

__all__ = ["PreflightBlocks"]


class PreflightBlocks(UpdaterError):
    """Something stands that must not stand before a change begins.

    Args:
        findings: The strict ones.
    """

    code = "NU-6300"
    exit_code = ExitCode.BLOCKED
    what = N_("The change cannot begin; what must be put right first: {count}.")
    remedy = N_("Follow the remedy of each finding, then try again.")

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__(
            detail="\n".join(f"{item.code}: {item.what} {item.remedy}" for item in findings),
            count=len(findings),
            findings=[
                {
                    "code": item.code,
                    "what": str(item.what),
                    "remedy": str(item.remedy),
                    "figures": dict(item.figures),
                }
                for item in findings
            ],
        )
