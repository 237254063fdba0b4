"""Publish the feed, copy it to other places, and monitor the public feed."""
