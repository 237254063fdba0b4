"""The dossier: one page for a director to read, print and sign. Presentation only, no decisions.

The page is ``templates/dossier.html``, filled by ``html_templates.py``, so that no value can be
taken for markup; it has no scripts and asks for no other file.
"""

from ncen_updater.agent.reports.dossier.page import render_dossier

__all__ = ["render_dossier"]
