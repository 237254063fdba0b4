"""Publication, copies of the feed elsewhere, and a look at what the public gets."""
