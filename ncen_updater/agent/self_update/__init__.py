"""Self-update of the agent: its releases, slots with a venv each, the trial of a new one.

``agent/failsafe.py`` is the other half and shares nothing with this room but the form of
``sequence.json``. May use ``feed``, ``slots`` and the journal; the steps of an upgrade know nothing
of it.
"""
