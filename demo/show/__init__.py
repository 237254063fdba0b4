"""Guided demonstration: a feed, a busy site and many kinds of failure, in minutes.

``acts`` has one module per act; ``programme`` defines their order. Each command of an operator or
signer runs as a process of its own and is shown before its output. Every promise is checked by
reading the databases directly (``proof``), never by asking the agent.
"""
