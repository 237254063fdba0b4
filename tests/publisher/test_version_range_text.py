"""Tests of the sentence about one field of a release."""

from __future__ import annotations

import pytest

from ncen_updater.publisher.signing.event_diff import describe_offer_field


@pytest.mark.parametrize(
    ("admitted", "said"),
    [
        ("", "ncen 3.2.4: first installation only"),
        (">=3.2.4", "ncen 3.2.4: upgrade from 3.2.4 or later"),
    ],
)
def test_installable_versions_are_described(admitted: str, said: str) -> None:
    """Seen: "can be installed where this runs: ", and nothing."""
    offer = {"product": "ncen", "version": "3.2.4", "upgrade_from": admitted}
    assert str(describe_offer_field(offer, "upgrade_from")) == said
