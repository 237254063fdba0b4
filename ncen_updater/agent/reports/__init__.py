"""What is told to people: status, diagnostics, dossier."""
