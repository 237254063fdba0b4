"""Moving bytes: downloads that resume and archives that unpack to exactly the signed tree.

This room is given lengths and digests that were verified elsewhere; it knows nothing of TUF, of
databases or of the application.
"""
