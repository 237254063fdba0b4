"""Reports for people: status, diagnostics, dossier."""
