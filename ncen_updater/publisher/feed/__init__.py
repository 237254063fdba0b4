"""The feed directory and the policy in its root: reading, verifying, editing."""
