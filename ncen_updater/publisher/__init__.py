"""The Secretariat's side: build, lint, sign by several officers, publish.

This room turns a release directory into TUF targets, lets officers sign new metadata away from the
network, and writes a feed that any static web server can carry. It knows nothing of sites. What a
client must be able to read is explained in ``docs/release-format.md``; how people work with it in
``docs/release-officer.md``.

====================  ==============================================================
``keys``              encrypted key files, public keys, signers
``ceremony``          who holds which role: the first event, and later changes
``build``             a release directory to targets, the same bytes every time
``lint``              what is wrong with a release directory before anybody signs it
``feed``              the published directory: reading, verifying, writing
``event``             a signing event: drafts, what they stand on, detached signatures
``eventfiles``        reading an event from a medium: plain files only, bounded
``rules``             what no signature may lift; the same for officers and for publishing
``drafting``          what goes into the drafts: releases, withdrawals, renewals
``describe``          the difference in words that an officer reads before signing
``unspoken``          what differs and has no words, by its place
``tokens``            keys on PKCS#11 tokens
``monitor``, ``probe``  the public feed as a site has it, and single questions to its server
``publish``           thresholds, online roles, order of writes
``release_flow``      all of it in one call, for tests and the demonstration
====================  ==============================================================
"""
