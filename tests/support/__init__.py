"""What several test modules share: real servers, sites and releases made on the spot."""
