"""Models and codecs of everything that is signed and shipped.

This package only reads and writes formats: it uses no network, no databases and no site. The agent
and the publisher both use it. ``docs/reference/release-format.md`` describes the formats.
"""
