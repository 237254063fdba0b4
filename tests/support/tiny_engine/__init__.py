"""A third database engine, as small as one can be: what a package beside the others has to hold."""
