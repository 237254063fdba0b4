"""Login to the console by a password: the system checks it, then only that user's process acts.

Each person gets a separate process (``helper``). It starts as root, which PAM and ``setuid`` need,
reads one line, and becomes that person for good before it does anything else. ``user_proxy``
decides which requests it then forwards to the service for a console. Imports nothing but
``common``.
"""
