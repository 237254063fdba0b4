"""Every reader of bytes that others write, fed with anything, for as long as somebody likes.

    .venv/bin/python -m tests.fuzz --minutes 10 --corpus ~/corpus

What an input leads to is told by where its error was raised; what leads somewhere new is kept in
the corpus and altered further, so a later run goes on where this one ended. A finding is whatever
escapes but an error of ours, or what takes longer than ten seconds; its bytes are kept under
``findings/``, and ``--again FILE`` tries them once more. ``test_fuzz.py`` is a short part of it in
every run of the tests.
"""
