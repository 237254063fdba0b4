"""The kit of both command lines. Thin: parse, call the rooms below, show what came of it.

``program`` runs a command line and turns whatever happens into an exit code; ``render`` and
``terminal`` show things to people; commands are imported only when they are run, so that
``ncen-updater status`` starts fast.
"""
