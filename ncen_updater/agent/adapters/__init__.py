"""Adapters to parts that differ between sites: databases, application, reader of the feed."""
