"""Measurements of the figures that the documents promise; see ``benchmarks/README.md``.

Each module is a program: ``.venv/bin/python -m benchmarks.NAME``. It measures both sides of a
comparison alternately in one run, and ends with one line of JSON.
"""
