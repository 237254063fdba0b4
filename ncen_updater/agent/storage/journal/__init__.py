"""The journal of a site: changes, their steps and facts, events, and what the site remembers."""
