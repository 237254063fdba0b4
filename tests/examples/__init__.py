"""The worked examples of docs/examples, done as the guide says."""
