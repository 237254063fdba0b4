"""Shared parts of test modules: real servers, sites and releases made on the spot."""
