"""What is wrong with a release directory, said before anybody signs it."""
