"""Creation of the first manifest: detection of the migration tool, answers, sandbox trial."""
