"""Bad input of every kind: a typed error with its four facts, and nothing changed."""
