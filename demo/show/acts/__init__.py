"""The acts, one per module; each has ``play(stage)``."""
