"""The dossier: one page for a decision maker to read, print and sign. Presentation only.

The page is ``templates/dossier.html``, rendered by ``html_templates.py``, which escapes all values;
it has no scripts and loads no other files.
"""

from ncen_updater.agent.reports.dossier.page import render_dossier

__all__ = ["render_dossier"]
