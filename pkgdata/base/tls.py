"""Which certificates are trusted: those of the environment, as requests has it, else certifi's."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl


def ca_bundle() -> str | None:
    """Return the file or folder of certificates that the environment names, or None."""
    names = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
    return next(filter(None, map(os.environ.get, names)), None)


def tls_context() -> ssl.SSLContext:
    """Return a context that trusts what requests would trust."""
    import ssl

    path = ca_bundle()
    if path is None:
        import certifi

        path = certifi.where()
    if os.path.isdir(path):
        return ssl.create_default_context(capath=path)
    return ssl.create_default_context(cafile=path)
