"""The commands of ``ncen-updater``, one module per command or group of related commands."""
