"""The Secretariat's side: build, lint, sign by several officers, publish."""
