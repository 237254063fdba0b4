"""The release format: what the Secretariat writes, signs and ships, as models.

This room reads and writes formats and nothing else: no network, no databases, no site. Agent and
publisher both stand on it. The formats are explained in ``docs/release-format.md``.
"""
