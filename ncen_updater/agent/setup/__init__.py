"""Set up a site: inspect the machine, show a plan, run it step by step, undo it.

``facts`` inspects the machine, ``proposal`` derives the configuration from it (pure), ``answers``
holds the operator's answers, ``plan`` builds the steps, ``steps`` runs and undoes them, ``record``
writes each step to the disk before it runs.
"""
