"""Random histories of a stand-in site, with strangers who write, and faults at any instant."""
