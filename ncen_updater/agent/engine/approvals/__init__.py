"""Approvals: bound to an upgrade path, counted, and void when the path changes."""
