"""PostgreSQL, on every version that can be found."""
