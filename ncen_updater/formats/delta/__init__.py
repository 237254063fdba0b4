"""Delta packs: from the tree of one release straight to the tree of another.

``make`` is the publisher's side, ``apply`` the agent's; ``docs/reference/delta-format.md`` is the
format that they share. This room is given a pack whose length and digest were verified elsewhere,
and still believes nothing in it: the caller compares the resulting tree with the signed one.
"""
