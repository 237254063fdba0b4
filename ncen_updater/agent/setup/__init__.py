"""Set a site up: find what runs, show one plan, do it step by step, undo it.

``facts`` asks the machine, ``proposal`` decides (pure), ``answers`` is what a person says, ``plan``
makes the steps of both, ``steps`` do and undo, ``record`` keeps what was done before it is done.
"""
