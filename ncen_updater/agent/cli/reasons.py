"""Why a person does something, as the journal keeps it: one line that is not empty."""

from __future__ import annotations

import click

from ncen_updater.common.cli.characters import clean
from ncen_updater.common.cli.usage import Misuse
from ncen_updater.common.i18n import N_

MAX_REASON = 500


def plain_reason(typed: str, context: click.Context) -> str:
    """Return what was typed after ``--reason`` as one line.

    Raises:
        Misuse: If nothing is left of it.
    """
    reason = clean(typed).replace("\n", " ").strip()[:MAX_REASON]
    if not reason:
        raise Misuse(N_("it is empty"), context, hint="--reason")
    return reason
