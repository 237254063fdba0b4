"""What an upgrade costs on the wire and at either end, against tufup's patch, in one run.

``python -m benchmarks.transfer``: downloads pairs of consecutive releases from PyPI, lets tufup's
own publisher and client move a directory from the old to the new one over HTTP, and ours as well.
"""
