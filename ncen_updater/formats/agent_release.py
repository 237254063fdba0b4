"""The form of a release of the agent itself: its wheels, and the lock that names each of them."""

__all__ = ["REQUIREMENTS", "WHEELS"]

WHEELS, REQUIREMENTS = "wheels", "requirements.txt"
