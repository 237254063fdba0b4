"""The commands of ``ncen-publisher``, one module per group of commands."""
