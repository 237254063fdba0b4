"""The publisher, for the Secretariat: build, lint, sign by several signers, publish.

The publisher turns a release directory into TUF targets, lets signers sign new metadata offline,
and writes a feed that any static web server can serve. It does not know the sites. The formats are
described in ``docs/reference/release-format.md``, the procedure in
``docs/how-to/publish-a-release.md``.
"""
