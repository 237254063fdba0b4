"""Files of translations and settings that a release carries: what they hold, and their places."""
