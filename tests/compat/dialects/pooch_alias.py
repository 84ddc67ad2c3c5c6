"""Puts `pkgdata.compat.pooch` in pooch's place in `sys.modules`, and keeps a process off the net.

pooch's own modules stay where private names are read from them; the names of the dialect are laid
over them.
"""

from __future__ import annotations

import importlib
import socket
import sys
import types

import pkgdata.compat.pooch as dialect

#: Names of the dialect, by the module of pooch in which users and tests look for them.
LAID_OVER = {
    "core": ("Pooch", "create", "retrieve"),
    "hashes": ("file_hash", "make_registry"),
    "utils": ("os_cache", "check_version"),
}


def install() -> types.ModuleType:
    """Alias pooch and the modules in which the dialect has names; return the alias."""
    real = importlib.import_module("pooch")
    for name in ("downloaders", "hashes", "processors", "utils"):
        getattr(dialect, name)  # the dialect keeps pooch's own from now on
    alias = types.ModuleType("pooch", "An alias of pkgdata.compat.pooch.")
    alias.__path__ = real.__path__  # for pooch.tests
    alias.__file__ = real.__file__
    alias.__getattr__ = lambda name: getattr(dialect, name)  # type: ignore[method-assign]
    for name in dialect.__all__:
        setattr(alias, name, getattr(dialect, name))
    sys.modules["pooch"] = alias
    for name, ours in LAID_OVER.items():
        theirs = importlib.import_module(f"pooch.{name}")
        module = types.ModuleType(f"pooch.{name}")
        module.__dict__.update(theirs.__dict__)
        module.__dict__.update({one: getattr(dialect, one) for one in ours})
        sys.modules[f"pooch.{name}"] = module
        setattr(alias, name, module)
    return alias


def stay_local() -> None:
    """Refuse every connection that leaves this machine."""
    connect = socket.socket.connect

    def local_only(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else ""
        if host and host not in ("127.0.0.1", "::1", "localhost"):
            raise OSError(f"this run stays on this machine; refused to connect to {host}")
        connect(self, address)  # type: ignore[arg-type]

    socket.socket.connect = local_only  # type: ignore[method-assign,assignment]
