"""A part of a bundle, and how it is gathered: found, or missing with the reason."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass

from ncen_updater.common.errors import UpdaterError

logger = logging.getLogger(__name__)

#: No part is larger; of a longer one the end is kept, since that is where it broke.
MAX_PART_CHARS = 1_000_000


@dataclass(frozen=True)
class BundlePart:
    """One file of a bundle.

    Attributes:
        name: Its name.
        text: What it holds; None where it could not be had.
        missing_reason: Why it could not be had.
    """

    name: str
    text: str | None
    missing_reason: str | None = None


def render_json(data: object) -> str:
    """Return data as a part holds them."""
    return json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False, default=str) + "\n"


def collect_part(name: str, gather: Callable[[], str]) -> BundlePart:
    """Gather one part; whatever goes wrong, the others go on.

    Args:
        name: Its name.
        gather: Returns its text.
    """
    try:
        text = gather()
    except UpdaterError as error:
        return BundlePart(name, None, error.code)
    except Exception as error:
        logger.debug("part %s", name, exc_info=True)
        return BundlePart(name, None, type(error).__name__)
    if len(text) > MAX_PART_CHARS:
        text = "[...]\n" + text[-MAX_PART_CHARS:]
    return BundlePart(name, text, None)
