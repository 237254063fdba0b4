"""A release directory to targets, the same bytes every time; with SBOM, provenance and packs."""
