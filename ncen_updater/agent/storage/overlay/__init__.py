"""Local overlay: the country's texts and settings, merged by key with those of each release.

``three_way_merge`` decides (pure, a table), ``layer`` finds and reads the local files and works on
a site's directories, ``translation_exchange`` exports and imports for translators, ``report_text``
contains the messages. The local files are only read, except in an import that an operator requests.
Merged files are beside the slots, in one directory for each release, and a link is switched
together with that of the slot (``docs/decisions/0072-local-overlay.md``).
"""
