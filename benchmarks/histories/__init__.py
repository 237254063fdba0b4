"""Random histories of a stand-in site, with foreign sessions, and faults at any instant."""
