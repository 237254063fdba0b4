"""The one file that starts the agent; `install` copies it out of the package."""
