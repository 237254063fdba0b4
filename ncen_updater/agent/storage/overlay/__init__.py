"""Local overlay: the country's texts and settings, merged by key with those of each release.

``three_way_merge`` decides (pure, a table), ``layer`` finds and reads the local files and works on
a site's directories, ``translation_exchange`` exports and imports for
translators, ``report_text`` has the sentences. The local files are only read, except in an import
that a person requests; merged files are beside the slots, one directory for each release, and a
link selects one together with the slot
(``docs/decisions/0072-local-overlay.md``).
"""
