"""Checks before a change: a module for each subject, a function for each check.

``base`` defines and runs checks; ``site_preflight``, one level up, finds them in all modules here.
A check only reads. It gets interfaces, so it imports no engine and no adapter.
"""
