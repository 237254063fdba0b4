"""Review page of a signer: affected sites, effects and dangers of an event.

``evidence`` finds the files that the signed lists name, ``sql_marks``, ``lowered`` and ``changes``
judge (pure), ``sentences`` says it in one breath, ``review`` puts it together, ``words`` and
``page`` show it on a terminal and on paper. Nothing here believes a file because it is there.
"""
