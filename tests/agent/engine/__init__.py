"""Tests of the upgrade engine."""
