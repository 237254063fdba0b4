"""The Secretariat's side: build, lint, sign by several signers, publish.

This room turns a release directory into TUF targets, lets signers sign new metadata away from the
network, and writes a feed that any static web server can carry. It knows nothing of sites. What a
client must be able to read is explained in ``docs/reference/release-format.md``; how people work
with it in ``docs/how-to/publish-a-release.md``.
"""
