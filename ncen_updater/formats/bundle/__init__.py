"""Bundles: a part of a feed on media carried by hand. Form and reading only.

What is in a bundle is believed no more than what comes over a line: ``trust`` verifies it. This
room knows nothing of signatures, the network or the site; the publisher writes with it and the
agent reads with it.
"""
