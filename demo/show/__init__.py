"""The guided demonstration: a feed, a busy site, and everything that can go wrong, in minutes.

One act a module under ``acts``; ``programme`` knows their order. What an operator or a signer
would type is run as a command of its own and shown before its output. Every promise is checked by
reading the databases directly (``proof``), never by asking the agent.
"""
