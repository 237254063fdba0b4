"""Code shared by all programs: independent of the site, the network and TUF."""
