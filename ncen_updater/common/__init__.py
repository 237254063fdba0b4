"""Code that every program uses: no site, no network, no TUF."""
