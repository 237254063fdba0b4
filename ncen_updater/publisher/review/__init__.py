"""Review page of a signer: affected sites, effects and dangers of an event.

``review_files`` finds the files that the signed metadata names, ``statement_marks``,
``weakened_protection`` and ``file_changes`` judge (pure), ``event_summary`` has one sentence for
each decision, ``event_review`` combines them, ``text_page`` and ``templates`` show the page on a
terminal and on paper. No file is trusted because it is there.
"""
