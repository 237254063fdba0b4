"""A feed without a line: bundles on media, and the lists that were imported from them."""
