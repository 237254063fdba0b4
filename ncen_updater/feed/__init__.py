"""What is on offer for this site: signed offers in, a path out. Pure: no reads, no writes."""
