"""Models and codecs of everything that is signed and shipped.

These rooms read and write formats and nothing else: no network, no databases, no site. Agent and
publisher both stand on them. The formats are explained in ``docs/reference/release-format.md``.
"""
