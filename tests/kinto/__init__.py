"""Kinto, a published application that is not ours, as the application of a site.

``docs/using-your-own-application.md`` explains each part.
"""
