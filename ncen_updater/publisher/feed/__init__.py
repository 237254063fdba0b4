"""The published directory: reading, verifying, editing, publishing."""
