"""The commands of ``ncen-publisher``, one module a family."""
