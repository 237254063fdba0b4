"""Delta packs: convert the tree of one release directly into the tree of another.

The publisher uses ``pack_builder``, the agent ``apply``; ``docs/reference/delta-format.md``
describes the format. The length and digest of a pack are verified elsewhere. This package still
does not trust its content: the caller compares the resulting tree with the signed one.
"""
