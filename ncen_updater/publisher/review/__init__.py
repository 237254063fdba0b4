"""What a signer reads before signing: whom it concerns, what it does, what is dangerous in it.

``evidence`` finds the files that the signed lists name, ``sql_marks``, ``lowered`` and ``changes``
judge (pure), ``sentences`` says it in one breath, ``review`` puts it together, ``words`` and
``page`` show it on a terminal and on paper. Nothing here believes a file because it is there.
"""
