"""Build TUF targets reproducibly from a release directory, with SBOM, provenance and packs."""
