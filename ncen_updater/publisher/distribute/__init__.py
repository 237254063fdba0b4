"""Copies of the feed elsewhere: stores, bundles on media, and a look at what the public gets."""
