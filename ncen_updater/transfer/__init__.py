"""Downloads with resume and limits. Knows nothing of databases."""
