"""URLs as text: join, fill placeholders, rewrite prefixes, hide secrets; and who is trusted."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping
    from typing import Any

#: Characters that a path segment may hold unquoted (RFC 3986, section 3.3), but for the ``+``,
#: which Amazon S3 and some web servers take for a blank.
_SEGMENT_SAFE = "!$&'()*,;=:@-._~"

#: Query keys whose values are secrets (signed URLs of S3, GCS and Azure, API tokens).
_SECRET_WORDS = ("sig", "token", "key", "secret", "passw", "credential", "auth")


def scheme(url: str) -> str:
    """Return the scheme in lower case, or ``""`` for a plain path (also for ``C:\\dir``)."""
    head, colon, _ = url.partition(":")
    if not colon or len(head) < 2 or not head[0].isalpha():
        return ""
    return head.lower() if all(c.isalnum() or c in "+-." for c in head) else ""


def canonical(url: str | os.PathLike[str]) -> str:
    """Turn a shorthand into the URL that serves it.

    ``github:owner/repo@tag`` is the release's asset folder; a plain path becomes a ``file:`` URL.

    Parameters
    ----------
    url : str or path-like

    Returns
    -------
    str

    Raises
    ------
    ConfigError
        The shorthand is malformed.
    """
    url = os.fspath(url)
    kind = scheme(url)
    if kind == "github":
        from ..errors import ConfigError

        repo, at, tag = url.partition(":")[2].partition("@")
        if not at or not tag or len(repo.strip("/").split("/")) != 2:
            raise ConfigError(f"expected github:OWNER/REPO@TAG, found {redact(url)!r}")
        from urllib.parse import quote

        return f"https://github.com/{repo.strip('/')}/releases/download/{quote(tag)}/"
    if kind == "":
        import pathlib

        return pathlib.Path(os.path.abspath(os.path.expanduser(url))).as_uri()
    return url


def file_path(url: str) -> str | None:
    """Return the path of a ``file:`` URL; None if it names another host."""
    from urllib.parse import unquote, urlsplit

    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        return None
    if os.name != "nt":
        return unquote(parts.path)
    from urllib.request import url2pathname  # 20 ms, and a folder is opened by its URL

    return url2pathname(parts.path)


def join(base: str, name: str) -> str:
    """Append a name to a base URL, quoting it; a query of the base stays at the end."""
    from urllib.parse import urlsplit, urlunsplit

    parts = urlsplit(base)
    path = parts.path if parts.path.endswith("/") else parts.path + "/"
    return urlunsplit(parts._replace(path=path + quote_name(name)))


def quote_name(name: str) -> str:
    """Quote a relative name for the path of a URL."""
    from urllib.parse import quote

    return quote(name, safe="/" + _SEGMENT_SAFE)


def redact(url: str) -> str:
    """Hide passwords and the values of secret-looking query keys."""
    from urllib.parse import urlsplit, urlunsplit

    outer, _, inner = url.partition("://")
    if inner.startswith(("http://", "https://")):
        return f"{outer}://{redact(inner)}"  # an endpoint within the URL of a bucket
    if url.endswith("://"):
        return url  # as it is being typed; taken apart and joined it would lose its slashes
    try:
        parts = urlsplit(url)
        if "@" in url:
            _ = parts.port  # a password with an unquoted slash looks like a wrong port
    except ValueError:
        return f"{scheme(url) or 'url'}:***"
    netloc = "***@" + parts.netloc.rpartition("@")[2] if "@" in parts.netloc else parts.netloc
    query, fragment = _redact_pairs(parts.query), _redact_pairs(parts.fragment)
    return urlunsplit(parts._replace(netloc=netloc, query=query, fragment=fragment))


def _redact_pairs(text: str) -> str:
    pairs = text.split("&")
    for i, pair in enumerate(pairs):
        key, equals, _ = pair.partition("=")
        if equals and any(word in key.lower() for word in _SECRET_WORDS):
            pairs[i] = f"{key}=***"
    return "&".join(pairs)


class Branch(str):
    """What stands for the version of a development state; ``v{version}`` is all of it."""

    __slots__ = ()


def expand(url: str, values: Mapping[str, str | None]) -> str:
    """Fill ``{version}`` and other placeholders."""
    if "{" not in url:
        return url
    from ..errors import ConfigError

    for key, value in values.items():
        field = "{" + key + "}"
        if field in url:
            if value is None:
                raise ConfigError(
                    f"{redact(url)} needs the {key}, which is not known",
                    hint=f"pass {key}=... to pkgdata.declare() or install the package",
                )
            if isinstance(value, Branch):  # the tag "v1.2", the branch "main"
                import re

                url = re.sub(r"(?<![A-Za-z0-9])v" + re.escape(field), field, url)
            # of a folder's path or the name of a release nothing is quoted yet
            is_web = scheme(url) in ("http", "https")
            url = url.replace(field, quote_name(value) if is_web else value)
    if "{" in url:
        raise ConfigError(f"{redact(url)} holds a placeholder other than {', '.join(values)}")
    return url


def rewrite(url: str, rules: Mapping[str, str]) -> str:
    """Apply the longest matching prefix rule."""
    for prefix in sorted(rules, key=len, reverse=True):
        if url.startswith(prefix):
            return rules[prefix] + url[len(prefix) :]
    return url


# -- what belongs to a server: headers, a login, the certificates that are trusted -------------


def headers_for(url: str, rules: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return the headers that are configured for a URL, the longest prefix winning."""
    found: dict[str, str] = {}
    if rules:
        *origin, path = _parts(url)
        for prefix in sorted(rules, key=len):
            *place, start = _parts(prefix)
            whole = start.endswith("/") or path[len(start) :][:1] in ("", "/")
            if origin == place and path.startswith(start) and whole:
                found.update(rules[prefix])
    return found


def _parts(url: str) -> tuple[str, str | None, int | None, str]:
    """Return scheme, host, port and path, as the server takes them."""
    from urllib.parse import unquote, urljoin, urlsplit

    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname, port, urljoin("/", unquote(parts.path) or "/")


#: Headers that say how bytes are sent: another value would make downloads wrong.
_OURS = (
    *("host", "range", "if-range", "accept-encoding", "connection", "content-length"),
    "transfer-encoding",
)


def checked_headers(value: Any) -> dict[str, dict[str, str]]:
    """Check a table of headers, or JSON that holds one; the ValueErrors show no value of it."""
    if isinstance(value, str):
        import json

        value = json.loads(value)
    found = {}
    for url, table in value.items():
        host = url.partition("://")[2].partition("/")[0]
        if not url.startswith(("http://", "https://")) or not host or "@" in host:
            raise ValueError(f"expected https://HOST/PATH, found {redact(url)!r}")
        for name, text in table.items():
            if not name.replace("-", "").isalnum() or name.lower() in _OURS:
                raise ValueError(f"{name!r} is no header that can be set")
            if not isinstance(text, str) or not (text.isascii() and text.isprintable()):
                raise ValueError(f"expected a text in ASCII, in one line, for {name}")
        found[url] = {name.title(): text for name, text in table.items()}
    return found


def _netrc() -> tuple[Any, str, str]:
    """Return the netrc that is read, its path, and why it cannot be read."""
    named = os.environ.get("NETRC")
    for path in map(os.path.expanduser, [named] if named else ["~/.netrc", "~/_netrc"]):
        if os.path.exists(path):
            import netrc

            try:
                return netrc.netrc(path), path, ""
            except (netrc.NetrcParseError, OSError, UnicodeDecodeError) as error:
                kind = "no UTF-8" if isinstance(error, ValueError) else getattr(error, "msg", error)
                return None, path, f"{path} cannot be read ({kind})"
    return None, "", ""


def netrc_login(host: str) -> tuple[str, str, str] | None:
    """Return user and password that netrc has for a host, and in which entry they stand."""
    found, path, _ = _netrc()
    known = found and found.authenticators(host)
    if not known:
        return None
    entry = f"the entry 'machine {host}'" if host in found.hosts else "the entry 'default'"
    return known[0] or known[1] or "", known[2] or "", f"{entry} of {path}"


def netrc_problem() -> str:
    """Return why netrc cannot be read, or an empty text."""
    return _netrc()[2]


#: Variables that name certificates, strongest first; the last one a list of folders.
_CA_NAMES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")


def ca_bundle() -> str | None:
    """Return the certificates, a file or folder, that the environment names as for requests.

    Raises `StoreError` if nothing is there.
    """
    name = next(filter(os.environ.get, _CA_NAMES), None)
    if name is None:
        return None
    value = os.environ[name]
    paths = value.split(os.pathsep) if name == "SSL_CERT_DIR" else [value]
    for path in paths:
        if os.path.isdir(path) or (name != "SSL_CERT_DIR" and os.access(path, os.R_OK)):
            return path
    from ..errors import StoreError

    raise StoreError(
        f"{name}={value}: nothing that can be read is there, to say which servers to trust",
        hint=f"set {name} to the certificates of those to trust, or unset it",
    )


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
