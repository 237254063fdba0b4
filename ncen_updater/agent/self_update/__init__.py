"""Self-update of the agent: its releases, one slot with a venv per version, the trial of a new one.

``agent/failsafe.py`` starts the selected slot; it shares only the format of ``sequence.json`` with
this package. This package may use ``feed``, ``slots`` and the journal; the steps of an upgrade do
not depend on it.
"""
