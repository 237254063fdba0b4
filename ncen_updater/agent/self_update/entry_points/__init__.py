"""The names by which units of systemd and other versions of the agent start this one.

An agent makes the slots of the next, or of an older one that was imported, and the units of the
package that is installed start whatever agent is chosen: each knows this agent by these names
alone, so they stay as they are. ``ncen_updater/__init__.py`` puts this room on the path of the
package; each module hands over to where its work is done today.
"""
