"""What every program of ours uses: no site, no network, no TUF."""
