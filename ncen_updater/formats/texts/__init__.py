"""Translation and settings files of a release: formats, contents and paths."""
