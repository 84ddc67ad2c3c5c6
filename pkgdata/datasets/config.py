"""Where datasets are kept: the repository, the folder on this computer, and the credentials.

The first of these files that exists counts, all of it:

1. ``datasets.toml`` next to the user's ``config.toml`` (``~/.config/pkgdata`` on Linux)
2. ``~/.etc.toml``, etcetera's own file; with it datasets are where etcetera keeps them
3. ``datasets.toml`` next to a site's ``config.toml``

``PKGDATA_DATASETS_URL`` and ``PKGDATA_DATASETS_HOME`` override each. Nothing is read from the
working directory.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ..base import config, urls
from ..errors import ConfigError
from ..stores import Store

#: Forms of a dataset in a repository: our own, and etcetera's ``NAME.tgz``.
FORMS = OWN, TGZ = "pkgdata", "etcetera"

#: Keys of a file. ``aws_access_key_secret`` is how etcetera's code spells what its documentation
#: calls ``aws_secret_access_key``.
KEYS = {
    "url": "str",
    "home": "str",
    "public": "flag",
    "endpoint": "str",
    "endpoint_url": "str",
    "aws_access_key_id": "str",
    "aws_secret_access_key": "str",
    "aws_access_key_secret": "str",
    "region": "str",
    "anonymous": "flag",
    "request_payer": "str",
    "secrets": "str|table",
    "format": "str",
    "compress": "str",
}

#: Schemes to which credentials, endpoint and region apply.
_CLOUDS = ("s3", "gs", "az")


class Config:
    """A repository, and the folder on this computer. Nothing is contacted, no folder is made.

    Parameters
    ----------
    url : str, optional
        Of the repository: any URL of a `Store`, with or without a prefix. Local operations need
        none.
    home : path-like, optional
        Folder of the datasets on this computer; pkgdata's own place by default.
    public : bool, default False
        Make what is pushed readable by everybody.
    endpoint : str, optional
        URL of the cloud's service, if it is not the provider's own.
    endpoint_url : str, optional
        Another spelling of ``endpoint``, etcetera's.
    aws_access_key_id, aws_secret_access_key : str, optional
        Credentials; by default those that the provider's own chain finds.
    aws_access_key_secret : str, optional
        Another spelling of ``aws_secret_access_key``.
    region : str, optional
    anonymous : bool, optional
    request_payer : str, optional
        See `Store`.
    secrets : mapping or str, optional
        Credentials of Google and Azure, or a file that holds them; see `Store`.
    format : ``"pkgdata"`` or ``"etcetera"``, default ``"pkgdata"``
        The form that is pushed when a call does not say.
    compress : str, optional
        ``"zstd"``: compress what is pushed in pkgdata's own form.
    origin : str, default ``"the call"``
        Where all this came from, for errors.
    """

    def __init__(
        self,
        url: str | None = None,
        home: str | os.PathLike[str] | None = None,
        *,
        public: bool = False,
        endpoint: str | None = None,
        endpoint_url: str | None = None,
        aws_access_key_id: str | None = None,
        aws_secret_access_key: str | None = None,
        aws_access_key_secret: str | None = None,
        region: str | None = None,
        anonymous: bool | None = None,
        request_payer: str | None = None,
        secrets: Mapping[str, Any] | str | None = None,
        format: str = OWN,
        compress: str | None = None,
        origin: str = "the call",
    ) -> None:
        self._given = {name: value for name, value in locals().items() if name != "self"}
        if format not in FORMS:
            raise ConfigError(f"{origin}: format = {format!r}: expected one of {', '.join(FORMS)}")
        if compress not in (None, "", "none", "zstd"):
            raise ConfigError(f"{origin}: compress = {compress!r}: expected zstd or none")
        self.url = config.expand_place(url, f"{origin}: url") if url else url
        path = config.expand_path(os.fspath(home), f"{origin}: home") if home else own_home()
        self.home = os.path.abspath(path)
        self.public = public
        self.endpoint = endpoint or endpoint_url
        self.region = region
        self.anonymous = anonymous
        self.request_payer = request_payer
        self.format = format
        self.compress = "zstd" if compress == "zstd" else None
        self.origin = origin

    def __repr__(self) -> str:
        url = urls.redact(self.url) if self.url else None
        return f"<Config url={url} home={self.home} from {self.origin}>"

    @classmethod
    def load(cls, filename: str | os.PathLike[str] | None = None) -> Config:
        """Read the settings from files and variables.

        Parameters
        ----------
        filename : path-like, optional
            Read only this file.

        Returns
        -------
        Config
            Without a repository if no place names one.

        Raises
        ------
        ConfigError
            The file is not there, or a key of it is wrong.
        """
        if filename is not None:
            return cls(**read_file(os.fspath(filename)))
        found: dict[str, Any] = {"origin": "the defaults"}
        for path, home in _places():
            if os.path.isfile(path):
                found = {"home": home, **read_file(path)}
                break
        for key in ("url", "home"):
            if value := os.environ.get(f"PKGDATA_DATASETS_{key.upper()}"):
                found[key] = value
        return cls(**found)

    def replaced(self, **changes: Any) -> Config:
        """Return a copy in which some values differ.

        Parameters
        ----------
        **changes
            As for the constructor.
        """
        return type(self)(**{**self._given, **changes})

    def store(self) -> Store:
        """Return the repository; nothing is contacted.

        Raises
        ------
        ConfigError
            None is set, or the settings do not fit together.
        """
        if not self.url:
            raise ConfigError(
                "no repository is set, so datasets can be neither pushed nor pulled",
                hint='set PKGDATA_DATASETS_URL, or write url = "s3://BUCKET" into '
                f"{_places()[0][0]}",
            )
        options: dict[str, Any] = {"anonymous": self.anonymous}
        if urls.scheme(urls.canonical(self.url)) in _CLOUDS:
            options |= {
                "endpoint": self.endpoint,
                "request_payer": self.request_payer,
                "region": self.region,
                "secrets": self._all_secrets(),
            }
        store = Store(self.url, **{key: one for key, one in options.items() if one is not None})
        store.exact = True  # names say how objects are stored; nothing else is searched
        return store

    def _all_secrets(self) -> Mapping[str, Any] | str | None:
        given: dict[str, Any] = self._given
        key = given["aws_access_key_id"]
        secret = given["aws_secret_access_key"] or given["aws_access_key_secret"]
        if not (key or secret):
            secrets: Mapping[str, Any] | str | None = given["secrets"]
            return secrets
        if not (key and secret):
            raise ConfigError(
                f"{self.origin}: of aws_access_key_id and aws_secret_access_key one is missing"
            )
        return {"aws_access_key_id": key, "aws_secret_access_key": secret}


def read_file(path: str) -> dict[str, Any]:
    """Read a file, etcetera's or ours, as the arguments of `Config`."""
    return {**config.read(path, KEYS), "origin": path}


def etc_file() -> str:
    """Return where etcetera's configuration is."""
    return os.path.expanduser(os.path.join("~", ".etc.toml"))


def etc_home() -> str:
    """Return where etcetera keeps datasets if nothing says otherwise."""
    return os.path.expanduser(os.path.join("~", ".etc"))


def own_home() -> str:
    """Return pkgdata's own place for datasets."""
    import platformdirs

    try:
        path = platformdirs.user_data_dir("pkgdata", appauthor=False)
    except RuntimeError:  # of newer releases; older ones leave the "~" as it is
        path = ""
    if not os.path.isabs(path):
        raise ConfigError(
            "this user has no home directory to keep datasets in",
            hint="set PKGDATA_DATASETS_HOME to a folder that can be written",
        )
    return os.path.join(path, "datasets")


def _places() -> list[tuple[str, str | None]]:
    """Return the files, strongest first, each with where datasets are by default."""
    found: dict[str, list[tuple[str, str | None]]] = {"user": [], "site": []}
    for kind, path in config.config_files():
        found[kind].append((os.path.join(os.path.dirname(path), "datasets.toml"), None))
    return [*found["user"], (etc_file(), etc_home()), *found["site"]]
