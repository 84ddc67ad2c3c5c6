"""URLs as text: join, fill placeholders, rewrite prefixes, hide secrets; and who is trusted."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Mapping
    from typing import Any

#: Characters that a path segment may hold unquoted (RFC 3986, section 3.3), but for the ``+``,
#: which Amazon S3 and some web servers take for a blank.
_SEGMENT_SAFE = "!$&'()*,;=:@-._~"

#: Names of a query whose values are shown; a secret may have any other name.
_HARMLESS = frozenset(
    str.split(
        "all archive attachment comp crs date datum delimiter depth dl download edition "
        "expires export ext extension file filename format from head height inline lang "
        "language layers level limit list list-type max-keys min month name none offset op "
        "order page part partnumber path per_page prefix raw ref release resolution "
        "response-content-disposition response-content-type restype rev revision se service "
        "size sort sp spr sr st start stop style sv time timeout to type uploadid uploads v "
        "ver version versionid versioning versions view width x-amz-algorithm x-amz-date "
        "x-amz-expires x-amz-signedheaders x-goog-algorithm x-goog-date x-goog-expires "
        "x-goog-signedheaders year"
    )
)

#: Words in the names of what is certainly a secret: a query's, a header's, a setting's.
_SECRET_WORDS = (
    *("sig", "token", "key", "secret", "pass", "pwd", "credential", "auth", "jwt", "session"),
    *("cookie", "policy", "sas"),
)

#: Headers of ours that hold no secret.
_PLAIN_HEADERS = frozenset(
    str.split(
        "accept accept-encoding connection content-length content-type host if-match "
        "if-modified-since if-none-match if-range range user-agent x-github-api-version"
    )
)

#: A host, where the first slash after it would end a login: in ``https://me:1/2@example.org/``.
_HOST_AFTER = r"@(localhost|\[[0-9A-Fa-f:.]+\]|[\w-]+(\.[\w-]+)*\.[A-Za-z]{2,})(:\d+)?"


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
        The shorthand is malformed, or a login in the URL holds ``/``, ``#`` or ``?`` as it is.
    """
    url = os.fspath(url)
    kind = scheme(url)
    if "@" in url and "://" in url:
        _check_login(url)
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


def _check_login(url: str) -> None:
    """Refuse a login that would be cut in two, and its end sent as a path to another host."""
    inner = url.partition("://")[2]
    url = inner if inner.startswith(("http://", "https://")) else url
    place = url.partition("://")[2].partition("/")[0].partition("?")[0].partition("#")[0]
    if "@" not in place and _is_odd_login(url, sure=True):
        from ..errors import ConfigError

        raise ConfigError(
            f"a URL of {scheme(url)} holds a login with one of / # ?, which end a host's name",
            hint="write %2F for /, %23 for #, %3F for ? (and %40 for an @ in a path), "
            "or put the login into ~/.netrc",
        )


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


#: A parameter of a path (RFC 3986, section 3.3), or a part of it that is written like one.
_PARAMETER = r"([/;])([^/;=]+)=([^/;]*)"


def redact(url: str) -> str:
    """Hide the login, and all values of the query and path but those known to be harmless."""
    from urllib.parse import urlsplit, urlunsplit

    outer, _, inner = url.partition("://")
    if inner.startswith(("http://", "https://")):
        return f"{outer}://{redact(inner)}"  # an endpoint within the URL of a bucket
    if url.endswith("://"):
        return url  # as it is being typed; taken apart and joined it would lose its slashes
    try:
        parts = urlsplit(url)
    except ValueError:
        return f"{scheme(url) or 'url'}:***"
    if _is_odd_login(url):
        return f"{scheme(url) or 'url'}:***"
    netloc = "***@" + parts.netloc.rpartition("@")[2] if "@" in parts.netloc else parts.netloc
    web = parts.scheme in ("http", "https")  # elsewhere a "?" stands for any character
    query = _redact_pairs(parts.query, web)
    fragment = _redact_pairs(parts.fragment, False)
    path = _redact_path(parts.path, web)
    return urlunsplit(parts._replace(netloc=netloc, path=path, query=query, fragment=fragment))


def _redact_path(path: str, web: bool) -> str:
    """Hide values as in ``/a;jsessionid=1/b``; in names of objects those that say what they are."""
    if "=" not in path and "@" not in path:
        return path
    import re

    def shown(found: re.Match[str]) -> str:
        mark, key, value = found.groups()
        return f"{mark}{key}=***" if _is_secret(mark, key, value, web) else found[0]

    return re.sub(r"(?<=://)[^/@]+@", "***@", re.sub(_PARAMETER, shown, path))


def _is_secret(mark: str, key: str, value: str, web: bool = True) -> bool:
    if mark == "/":  # elsewhere "/key=5/" is a part of an object's name, as of a partitioned table
        return web and _says_secret(key)
    return _says_secret(key) or (web and not _is_harmless(f"{key}={value}", False))


def _says_secret(name: str) -> bool:
    from urllib.parse import unquote

    name = unquote(name).lower()
    return any(word in name for word in _SECRET_WORDS)


def _redact_pairs(text: str, also_bare: bool) -> str:
    pairs = text.split("&")
    for i, pair in enumerate(pairs):
        key, equals, _ = pair.partition("=")
        if not _is_harmless(pair, also_bare):
            pairs[i] = f"{key}=***" if equals else "***"
    return "&".join(pairs)


def _is_harmless(pair: str, also_bare: bool) -> bool:
    from urllib.parse import unquote

    key, equals, value = pair.partition("=")
    if not equals and not also_bare:
        return True
    # within a value there may be another URL, or another query
    nested = any(c in unquote(value) for c in "=?@;") and not key.lower().startswith("x-")
    return key == "" == value or (key.lower() in _HARMLESS and not nested)


def _is_odd_login(url: str, sure: bool = False) -> bool:
    """Return True if a login may hold ``/``, ``?`` or ``#``, which end the host of a URL."""
    import re
    from urllib.parse import urlsplit

    rest = url.partition("://")[2]
    place = re.split("[/?#]", rest, maxsplit=1)[0]
    tail = rest[len(place) :]
    if "@" not in tail or ":" not in place:
        return False
    try:
        _ = urlsplit(url).port
    except ValueError:
        return True  # what follows the colon is no port
    host = place.rpartition("@")[2].partition(":")[0]
    is_host = "." in host or host in ("localhost", "") or host.startswith("[")
    return re.search(_HOST_AFTER + ("/" if is_host or sure else "(/|$)"), tail) is not None


def has_secret(url: str) -> bool:
    """Return True if a URL holds a login, or a value whose name says that it is a secret."""
    import re
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
    except ValueError:
        return True
    names = [pair.partition("=")[0] for pair in f"{parts.query}&{parts.fragment}".split("&")]
    names += [name for mark, name, _ in re.findall(_PARAMETER, parts.path) if mark == ";"]
    return "@" in parts.netloc or any(map(_says_secret, names)) or _is_odd_login(url)


def secrets_of(url: str, headers: Mapping[str, Any] = {}) -> set[str]:
    """Return the values that a request sends and that nobody else may see, for `redact_text`."""
    import base64
    import re
    from urllib.parse import unquote_plus, urlsplit

    try:
        parts = urlsplit(url)
    except ValueError:
        return set()
    user, colon, password = parts.netloc.rpartition("@")[0].partition(":")
    found = {password if colon else user}
    for pair in f"{parts.query}&{parts.fragment}".split("&"):
        if not _is_harmless(pair, True):
            found.add(pair.partition("=")[2] or pair)
    found |= {one[2] for one in re.findall(_PARAMETER, parts.path) if _is_secret(*one)}
    for name, value in headers.items():
        text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
        if name.lower() not in _PLAIN_HEADERS:
            kind, _, rest = text.partition(" ")
            found |= {text, rest, *(part.partition("=")[2] for part in text.split("; "))}
            if kind == "Basic":
                try:
                    found.add(base64.b64decode(rest).decode().partition(":")[2])
                except ValueError:
                    pass  # no login, but somebody's own text
    return found | set(map(unquote_plus, found))


def harmless(value: Any) -> Any:
    """Return a value without secrets: of headers the names alone, of URLs neither login nor key."""
    if isinstance(value, (list, tuple)):
        return type(value)(map(harmless, value))
    if isinstance(value, dict):
        return {
            harmless(key): dict.fromkeys(one, "***") if isinstance(one, dict) else harmless(one)
            for key, one in value.items()
        }
    return redact_text(redact(value)) if isinstance(value, str) and "://" in value else value


def redact_text(text: str, sent: Iterable[str] = ()) -> str:
    """Hide secrets in somebody else's text: in URLs, by names that say so, and those `sent`."""
    import re
    from urllib.parse import quote

    values: set[str] = set()
    for one in sent:
        from html import escape  # its tables of names are not worth it where nothing was sent

        values |= {one, quote(one), quote(one, safe=""), escape(one), repr(one)[1:-1]}
    for value in sorted(values, key=len, reverse=True):
        if len(value) < SHORTEST:
            continue  # it would hide half of the text, and the rest would show what it is
        text = text.replace(value, "***")
        cut = next((n for n in range(len(value) - 1, 3, -1) if text.endswith(value[:n])), 0)
        text = text[: len(text) - cut] + "***" * bool(cut)
    text = re.sub(r"[A-Za-z][\w+.-]*://[^\s'\"<>`{}|\\]+", lambda found: redact(found[0]), text)
    named = rf"[\w.-]*(?:{'|'.join(_SECRET_WORDS)})[\w.-]*"
    text = re.sub(
        r"(?i)\b((?:proxy-)?authorization|cookie)(['\"]?\s*[:=]\s*['\"]?)[^'\"\n]+",
        r"\1\2***",
        text,
    )
    text = re.sub(rf"(?i)(['\"]{named}['\"]\s*[:=]\s*)(['\"]).*?\2", r"\1\2***\2", text)
    return re.sub(rf"(?i)({named}=)[^\s&'\"<>;,]+", r"\1***", text)


def quoted(head: bytes, sent: Iterable[str]) -> str:
    """Return the first bytes of an answer for an error, without the secrets that were sent."""
    return repr(redact_text(head.decode("latin-1"), sent)[:40].encode("latin-1"))


#: Characters that a value has at least for it to be looked for in what a server answers.
SHORTEST = 4


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
        from .report import parse_json

        value = parse_json(value, ValueError)
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

            from . import fs

            try:
                os.close(fs.regular(path))
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
        if os.path.isdir(path) or (name != "SSL_CERT_DIR" and _can_be_read(path)):
            return path
    from ..errors import StoreError

    raise StoreError(
        f"{name}={value}: nothing that can be read is there, to say which servers to trust",
        hint=f"set {name} to the certificates of those to trust, or unset it",
    )


def _can_be_read(path: str) -> bool:
    from . import fs

    try:
        os.close(fs.regular(path))
    except OSError:  # a pipe, too: its reader would wait
        return False
    return True


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
