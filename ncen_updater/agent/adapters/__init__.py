"""Adapters to what differs between sites: databases, application, reader of the feed."""
