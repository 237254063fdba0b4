"""The TUF client and its fetchers. Knows nothing of databases or of the application."""
