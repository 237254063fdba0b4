"""Review page for signers: affected sites, effects and dangers of an event.

``review_files`` finds the files that the signed metadata names. ``statement_marks``,
``weakened_protection`` and ``file_changes`` judge (pure). ``event_review`` combines them with a
summary in sentences. ``text_page`` and ``templates`` show the page on a terminal and on paper. No
file is trusted without its signed digest.
"""
