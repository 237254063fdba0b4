"""Rehearsals of releases on copies of the site's own data, and what they foretell."""
