"""Reports: status, diagnostics, dossier, receipts."""
