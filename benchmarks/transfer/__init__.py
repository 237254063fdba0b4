"""Cost of an upgrade in bytes and processor time, compared with tufup's patch in the same run.

``python -m benchmarks.transfer`` downloads pairs of consecutive releases from PyPI. tufup's own
publisher and client update a directory from the old to the new release over HTTP, and so do ours.
"""
