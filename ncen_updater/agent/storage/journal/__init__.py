"""Journal of a site: changes, their steps and facts, events, and the history of the site."""
