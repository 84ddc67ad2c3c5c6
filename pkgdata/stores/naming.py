"""What URLs of stores mean: the driver, the bucket, and the prefixes that brackets stand for."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ..base import urls
from ..base.report import read_json
from ..base.urls import quote_name, redact, scheme
from ..errors import ConfigError

#: Schemes and where their drivers are.
_DRIVERS = {
    "http": "http.HttpStore",
    "https": "http.HttpStore",
    "file": "file.FileStore",
    "mem": "other.MemoryStore",
    "s3": "s3.S3",
    "gs": "providers.Google",
    "az": "providers.Azure",
    "sftp": "sftp.SftpStore",
}

_KNOWN = "http, https, file or a plain path, s3, gs, az, sftp, github:OWNER/REPO@TAG, mem"


def find(url: str) -> type[Any]:
    """Return the class of stores that a URL belongs to."""
    home = _DRIVERS.get(urls.scheme(urls.canonical(url))) or _other(url)
    module, _, name = home.partition(".")
    found: type[Any] = getattr(importlib.import_module(f"{__package__}.{module}"), name)
    return found


def check(url: str) -> None:
    """Raise a `ConfigError` if nothing serves a URL."""
    if urls.scheme(url) not in _DRIVERS:
        _other(url)


def _other(url: str) -> str:
    """Return the driver of fsspec's protocols, if fsspec is installed and has this one."""
    kind = urls.scheme(urls.canonical(url))
    try:
        from fsspec.registry import known_implementations, registry
    except ImportError:
        known: Any = ()
        hint = f"known: {_KNOWN}; with fsspec installed (pip install fsspec), its protocols too"
    else:
        known = {*known_implementations, *registry}
        hint = f"known: {_KNOWN}, and the protocols of fsspec"
    if kind not in known:
        raise ConfigError(f"{urls.redact(url)}: unknown scheme {kind!r}", hint=hint)
    return "other.FsspecStore"


def split_bucket(url: str) -> tuple[str, str | None, str]:
    """Cut a URL into that of its bucket, the service that it names, and what follows the bucket."""
    head, _, rest = url.partition("://")
    head, endpoint = f"{head}://", None
    if rest.startswith(("http://", "https://")):
        protocol, _, rest = rest.partition("://")
        host, _, rest = rest.partition("/")
        endpoint = f"{protocol}://{host}"
        head += f"{endpoint}/"
    elif scheme(url) == "az" and ".blob." in rest.partition("/")[0]:
        host, _, rest = rest.partition("/")
        endpoint = f"https://{host}"
        head += f"{host}/"
    bucket, _, name = rest.partition("/")
    return head + bucket, endpoint, name


class BucketUrl:
    """A bucket, a prefix in it, and the service that has it, of a URL: see `Store`."""

    def __init__(self, url: str, endpoint: str | None = None) -> None:
        self.kind = scheme(url)
        base, own, prefix = split_bucket(url)
        self.bucket = base.rpartition("/")[2]
        self.prefix = prefix.strip("/")
        endpoint = endpoint or own
        self.endpoint = checked_endpoint(endpoint) if endpoint else None
        if not re.fullmatch(_BUCKET, self.bucket) or "?" in prefix:
            raise ConfigError(
                f"{redact(url)}: expected {self.kind}://BUCKET/PREFIX",
                hint="credentials belong into the environment, a profile or secrets=, "
                "an endpoint into endpoint= or s3://https://ENDPOINT/BUCKET/PREFIX",
                command="credentials belong into the environment or a profile, an endpoint into "
                "--endpoint or s3://https://ENDPOINT/BUCKET/PREFIX",
            )


#: What providers let the names of buckets consist of; ``$web`` is Azure's.
_BUCKET = r"\$?[A-Za-z0-9][A-Za-z0-9._-]*"


def checked_endpoint(endpoint: str) -> str:
    """Return the URL of a service without a closing slash."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(endpoint)
        good = parts.hostname and parts.port != 0 and parts.scheme in ("http", "https")
    except ValueError:
        good = None  # such as a port that is no number
    if not good or "@" in endpoint or any(c.isspace() for c in endpoint):
        raise ConfigError(
            f"{redact(endpoint)}: expected an endpoint as https://HOST:PORT",
            hint="credentials belong into the environment, a profile or secrets=",
            command="credentials belong into the environment or a profile",
        )
    return endpoint.rstrip("/")


def no_account(url: str) -> ConfigError:
    """Return the error of a container whose account is not known."""
    return ConfigError(
        f"{redact(url)} does not say which account has the container",
        hint="write az://ACCOUNT.blob.core.windows.net/CONTAINER, or set "
        "AZURE_STORAGE_ACCOUNT_NAME",
    )


def web_address(url: str) -> str:
    """Return the web address of a public bucket."""
    place = BucketUrl(url)
    if place.endpoint is not None:
        base = f"{place.endpoint}/{place.bucket}"
    elif place.kind == "gs":
        base = f"https://storage.googleapis.com/{place.bucket}"
    elif place.kind == "az":
        account = os.environ.get("AZURE_STORAGE_ACCOUNT_NAME")
        if not account:
            raise no_account(url)
        base = f"https://{account}.blob.core.windows.net/{place.bucket}"
    elif "." in place.bucket:  # as a part of the host name it would not fit the certificate
        base = f"https://s3.amazonaws.com/{place.bucket}"
    else:
        base = f"https://{place.bucket}.s3.amazonaws.com"
    return f"{base}/{quote_name(place.prefix)}/" if place.prefix else f"{base}/"


def in_its_region(url: str, region: str | None) -> str | None:
    """Return where Amazon has a bucket of another region: its answer has no Location."""
    if region is None or not re.fullmatch("[a-z0-9-]+", region):
        return None
    pattern = r"(https?://(?:[\w.-]+\.)?)s3(?:[.-][a-z0-9-]+)?\.amazonaws\.com/"
    found = re.sub("^" + pattern, rf"\1s3.{region}.amazonaws.com/", url)
    return found if found != url else None


def read_secrets(secrets: Mapping[str, Any] | str) -> dict[str, Any]:
    """Return credentials, of a mapping or a JSON file, with their names in lower case."""
    found: Any = secrets
    if isinstance(secrets, (str, os.PathLike)):
        try:
            found = read_json(
                os.path.expanduser(secrets), lambda why: ConfigError(f"secrets: {secrets}: {why}")
            )
        except OSError as error:
            raise ConfigError(f"secrets: {secrets}: {error.strerror}") from None
    if not hasattr(found, "items"):
        raise ConfigError(f"secrets: expected a mapping, found {type(found).__name__}")
    return {str(key).lower(): value for key, value in found.items()}


#: More prefixes than this are refused: each costs a request.
MOST = 100_000


def expand_brackets(text: str) -> Iterator[str]:
    """Yield each text that an expression stands for, sorted, each once.

    ``[abc]`` stands for one of the characters, ``[a-f]`` for one of a range, and ``{3}`` behind it
    repeats it.

    >>> list(expand_brackets("x[ab]{2}"))
    ['xaa', 'xab', 'xba', 'xbb']
    """
    import itertools

    parts: list[list[str]] = []
    count = 1
    rest = text
    while rest:
        plain, bracket, rest = rest.partition("[")
        if plain:
            parts.append([plain])
        if bracket:
            found, times, rest = _bracket(text, rest)
            count *= len(found) ** times
            if count > MOST:
                raise ConfigError(f"{text!r} stands for more than {MOST} prefixes")
            parts += [found] * times
    return map("".join, itertools.product(*parts))


def _bracket(text: str, rest: str) -> tuple[list[str], int, str]:
    """Read what is behind ``[``: its characters, how often, and what comes then."""
    inside, closed, rest = rest.partition("]")
    characters = sorted(set(_characters(inside)))
    if not closed or not characters:
        raise ConfigError(
            f"{text!r}: expected characters and ']' after '['",
            hint="write [abc] or [a-f], and {2} behind it to repeat it",
        )
    if not rest.startswith("{"):
        return characters, 1, rest
    number, closed, after = rest[1:].partition("}")
    if not closed or not (number.isascii() and number.isdigit()) or len(number) > 3:
        raise ConfigError(f"{text!r}: expected a number and '}}' after '{{'")
    return characters, int(number), after


def _characters(inside: str) -> Iterator[str]:
    for first, last in re.findall("(?s)(.)(?:-(.))?", inside):
        yield from map(chr, range(ord(first), ord(last or first) + 1))
