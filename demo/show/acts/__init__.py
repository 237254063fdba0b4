"""The acts, one a module; each has ``play(stage)``."""
