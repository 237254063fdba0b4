"""What every answer of the console carries, so that a browser does nothing that it need not."""

from __future__ import annotations

from collections.abc import Iterator

#: Of the names of cookies: with this a browser takes one from a secure place alone, for this host
#: and every path. What comes from the machine itself counts as secure, also without TLS: W3C Secure
#: Contexts, 3.1. A host has many ports: each console has a name of its own behind it.
COOKIE_PREFIX = "__Host-ncen-console-"
#: Nothing from elsewhere; scripts and styles are files of ours, never part of a page.
PAGE_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "frame-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)


def build_security_headers(policy: str, *, framed: bool = False) -> Iterator[tuple[str, str]]:
    """Yield the headers of an answer.

    Args:
        policy: Its ``Content-Security-Policy``.
        framed: Whether a page of ours shows it within itself.
    """
    yield "Content-Security-Policy", policy
    yield "X-Frame-Options", "SAMEORIGIN" if framed else "DENY"
    yield "X-Content-Type-Options", "nosniff"
    yield "Referrer-Policy", "no-referrer"
    yield "Cache-Control", "no-store"
    yield "Cross-Origin-Opener-Policy", "same-origin"
    yield "Cross-Origin-Resource-Policy", "same-origin"
    yield "Permissions-Policy", "camera=(), geolocation=(), microphone=()"


def build_session_cookie(name: str, secret: str, *, expire: bool = False) -> tuple[str, str]:
    """Return the header that gives a browser the secret of its session, or takes it back."""
    age = "; Max-Age=0" if expire else ""
    return "Set-Cookie", f"{name}={secret}; Path=/; Secure; HttpOnly; SameSite=Strict{age}"
