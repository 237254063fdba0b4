"""The two programs. Thin: parse, call, render."""
