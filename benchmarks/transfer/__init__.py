"""Cost of an upgrade in bytes and processor time, compared with tufup's patch in the same run.

``python -m benchmarks.transfer``: downloads pairs of consecutive releases from PyPI, lets tufup's
own publisher and client move a directory from the old to the new one over HTTP, and ours as well.
"""
