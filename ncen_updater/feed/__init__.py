"""The TUF client: what the Secretariat signed, and nothing else, reaches this site.

This room knows of the network and of TUF, and of neither databases nor the application. Every line
that touches ``tuf`` or ``tufup`` on the reading side is here, on interfaces that tuf 4 and tuf 7
have in common. Importing this package imports none of them; ``load_last_view`` needs only the
standard library. What is on offer for a site, and the way there, are pure: ``upgrade_path`` and
``waves``.
"""
