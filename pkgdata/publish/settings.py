"""What a package's ``pkgdata.toml`` says of publishing."""

from __future__ import annotations

import os

from ..base import config, urls
from ..core.declaration import find_package
from ..errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from ..core.package import PackageData


class PublishTable:
    """A package that is published: its registry file, its addresses, its table ``[publish]``."""

    def __init__(self, data: PackageData, folder: str) -> None:
        tables = config.read_toml(os.path.join(folder, "pkgdata.toml"))
        self._data = data
        table: dict[str, Any] = tables.get("publish", {})
        name = tables.get("package", {}).get("registry", "registry.txt")
        #: Import name.
        self.name = data.name
        self.registry_file = os.path.join(folder, name)
        self.toml = os.path.join(folder, "pkgdata.toml")
        self.to = self._filled(table.get("to", ()))
        #: Public addresses; none or one.
        self.urls = self._filled([table["url"]] if table.get("url") else ())
        self.public = bool(table.get("public"))
        self.index = bool(table.get("index"))

    @property
    def dataurl(self) -> list[str]:
        """Where users look for the files, with the version filled in."""
        return self._filled(self._data.dataurl)

    def _filled(self, templates: Iterable[str]) -> list[str]:
        templates = [*templates]
        version = self._data.version if any("{version}" in one for one in templates) else None
        values = {"version": version, "package": self.name}
        return [urls.expand(one, values) for one in templates]


def settings_of(package: str) -> PublishTable:
    """Return what a package says of publishing; see `find_package` for how it is named."""
    data = find_package(package)
    folder = data.package_dir
    if folder is None or not os.path.exists(os.path.join(folder, "pkgdata.toml")):
        raise ConfigError(
            f"{package!r} has no pkgdata.toml", hint="'pkgdata init' writes one for a package"
        )
    return PublishTable(data, folder)
