"""Rehearsals of releases on copies of the site's data, and their forecasts."""
