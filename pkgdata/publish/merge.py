"""What publishing adds to a registry file: its comments and the other lines stay as they are."""

from __future__ import annotations

import os

from ..base import fs
from ..core.registry import Entry, Registry
from ..errors import AlreadyPublishedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from .destination import Item


def load(file: str) -> Registry:
    """Read a registry; an empty one if there is no file yet."""
    return Registry.load(file) if os.path.exists(file) else Registry(file=file)


def entries(
    items: Iterable[Item],
    registry: Registry,
    urls: Mapping[str, Collection[str]],
    replaced: Collection[str],
) -> Registry:
    """Return a registry with the published files in it; what it has of other files stays.

    ``urls`` are by name, of files that have their own; of those ``replaced`` the old ones go.
    """
    found = dict(registry)
    for item in items:
        old = found.get(item.name)
        digest, own = item.digest, tuple(urls.get(item.name, ()))
        if old is not None and old.digest is not None:
            if item.digest_by(old.digest.alg) == old.digest:
                digest = old.digest  # the algorithm that its author chose
                own = (*own, *(url for url in old.urls if url not in own))
            elif item.name not in replaced:
                raise AlreadyPublishedError(
                    f"{registry.file} has got another digest of {item.name!r} meanwhile",
                    hint="somebody else publishes too; look at the registry and run again",
                    names=[item.name],
                )
        found[item.name] = Entry(item.name, digest, item.size, own)
    return Registry(found.values(), registry.file)


def text(old_text: str, old: Registry, new: Registry) -> str:
    """Write a registry's text, with the lines of the old one where nothing has changed."""
    lines: list[str] = []
    facts: list[str] = []
    seen: set[str] = set()
    for line in old_text.splitlines():
        words = Registry.parse(line) if _is_entry(line) else None
        if line.lstrip().startswith("#:"):
            facts.append(line)
        elif not words:
            lines += [*facts, line]
            facts = []
        else:
            (name,) = words
            seen.add(name)
            same = new[name] == old[name]
            lines += [*facts, line] if same else Registry([new[name]]).dumps().splitlines()
            facts = []
    added = Registry(entry for name, entry in new.items() if name not in seen)
    return "".join(f"{line}\n" for line in lines + facts) + added.dumps()


def _is_entry(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def write(file: str, old: Registry, new: Registry) -> bool:
    """Write a registry whole or not at all; return whether anything changed."""
    if os.path.exists(file) and dict(old) == dict(new):
        return False
    target = os.path.realpath(file)  # a link stays one
    old_text = ""
    if os.path.exists(target):
        with open(target, encoding="utf-8-sig") as source:
            old_text = source.read()
    kept = _is_ours(old_text) and sum(map(_is_entry, old_text.splitlines())) == len(old)
    content = text(old_text, old, new) if kept else new.dumps()
    folder = os.path.dirname(target)
    os.makedirs(folder, exist_ok=True)
    fs.write_atomic(target, content.encode())
    _sync_folder(folder)
    return True


def _is_ours(old_text: str) -> bool:
    """Return True if a text has our format: that of ``sha256sum`` is read too, but not added to."""
    first = next(filter(_is_entry, old_text.splitlines()), "").split()
    return not first or len(first[0]) < 32 or bool(first[0].lower().strip("0123456789abcdef"))


def _sync_folder(folder: str) -> None:
    """Make a rename survive a power loss, where folders can be synced at all."""
    if fs.WINDOWS:
        return
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError:
        pass  # some network file systems refuse; the content itself is synced
    finally:
        os.close(fd)
