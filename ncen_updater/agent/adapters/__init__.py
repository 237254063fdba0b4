"""What differs from site to site: databases, application, reader of the feed."""
