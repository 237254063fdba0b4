"""Read-only inspection of a site: verify, doctor, the support bundle."""
