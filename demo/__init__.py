"""Stand-in for nCEN, and the guided demonstration. The agent imports nothing from this package.

nCEN itself is not public. The stand-in is based on public facts about release 3.3.0; it is meant to
be realistic, not identical.
"""
