"""Checks before a change: a module for each subject, a function for each check.

``base`` says what a check is and runs them; ``site_preflight`` above lists them. A check looks and
never changes anything; it is given interfaces, so that it knows no engine and no adapter by name.
"""
