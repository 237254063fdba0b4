"""A third database engine, as small as possible: the required contents of such a package."""
