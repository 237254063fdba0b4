"""Local overlay: the country's texts and settings, merged by key with those of each release.

``merge`` decides (pure, a table), ``coverage`` counts, ``own_files`` finds and reads, ``layer``
works on a site's directories, ``exchange`` is what goes to translators and comes back, ``words``
says it. The country's own files are only read, but for an import that a person orders; what is
merged lies beside the slots, one directory a release, and a link chooses one together with the slot
(``docs/decisions/0072-local-overlay.md``).
"""
