"""Delta packs: from the tree of one release straight to the tree of another.

``make`` is the publisher's side, ``apply`` the agent's; ``docs/delta-format.md`` is the format that
they share. This room is given a pack whose length and digest were verified elsewhere, and still
believes nothing in it: whoever applies a pack compares the tree that comes out with the signed one.
"""
