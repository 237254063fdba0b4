"""The upgrade engine: plan (pure), steps, journal, runner, recovery (pure)."""
