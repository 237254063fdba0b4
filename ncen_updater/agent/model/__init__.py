"""Plain data: what the other rooms hand to each other."""
