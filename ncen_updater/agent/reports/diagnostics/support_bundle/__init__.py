"""The support bundle: what the Secretariat needs to help, and nothing of the application's records.

Made from a list of parts, each of which says itself what it holds; what cannot be had on a site
that is half broken is named as missing. Reads everything, changes nothing, and sends nothing.
"""
