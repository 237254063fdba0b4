"""Kinto, a published application that is not ours, as the application of a site.

``docs/how-to/package-an-application.md`` explains each part.
"""
