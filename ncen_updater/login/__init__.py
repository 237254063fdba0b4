"""Login to the console by a password: the system checks it, then only that user's process acts.

A process of its own for each person. It begins as root, for only that can ask PAM and become
somebody, reads one line, and is that person for good before it does anything else: ``helper``. What
it then asks the service for, and what it never does for a console, is ``bridge``. Imports nothing
but ``common``.
"""
