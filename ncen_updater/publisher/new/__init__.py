"""The first manifest of an application: what its tree tells, what is asked, what is written."""
