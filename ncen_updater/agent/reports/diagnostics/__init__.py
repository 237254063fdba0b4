"""Looking at a site without changing it: verify, doctor, the bundle for support."""
