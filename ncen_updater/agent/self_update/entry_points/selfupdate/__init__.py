"""See :mod:`ncen_updater.agent.self_update.entry_points`."""
