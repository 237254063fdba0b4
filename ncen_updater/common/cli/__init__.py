"""Shared parts of both command lines: parse options, call other packages, show the result.

``program`` runs a command line and turns every outcome into an exit code; ``render`` and
``characters`` format output. Commands are imported only when they run, so that ``ncen-updater
status`` starts fast.
"""
