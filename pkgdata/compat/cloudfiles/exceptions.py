"""cloud-files' names of errors, in pkgdata's tree: its module ``exceptions``."""

from __future__ import annotations

from ...errors import AccessDeniedError, ConfigError, IntegrityError, StoreError


class UnsupportedProtocolError(ConfigError):
    """A URL of a kind that is not known."""


class DecompressionError(StoreError):
    """Stored bytes are not what their encoding says."""


class CompressionError(ConfigError):
    """Bytes cannot be compressed as asked for."""


class UnsupportedCompressionType(CompressionError):
    """An encoding that is not known."""


#: Which checksum it was that did not match, the error's attributes say.
MD5IntegrityError = CRC32CIntegrityError = IntegrityError

AuthorizationError = AccessDeniedError
