"""Helpers of tests: real servers, sites and releases."""
