"""What people said yes to: bound to a path as it stood, counted, and void when it changed."""
