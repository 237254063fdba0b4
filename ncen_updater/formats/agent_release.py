"""The form of a release of the agent itself: its wheels, and the lock that names each of them."""

WHEELS, REQUIREMENTS = "wheels", "requirements.txt"
