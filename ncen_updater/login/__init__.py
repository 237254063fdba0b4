"""Password login to the console: PAM checks the password, the user's process sends the requests.

Each connection gets a separate process (``helper``). It starts as root, which PAM and ``setuid``
require, reads one line, and switches to the user for good before anything else. ``user_proxy``
then decides which requests it forwards to the service. Imports only ``common``.
"""
