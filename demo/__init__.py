"""The stand-in for nCEN, and the guided demonstration. Nothing of the agent imports this room.

nCEN itself is not public. What is here is built from public facts about release 3.3.0 and is meant
to be believable, not alike.
"""
