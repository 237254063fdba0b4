"""Plain data that the other packages of the agent exchange."""
