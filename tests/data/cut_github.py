"""Cut what concerns releases out of GitHub's own OpenAPI description.

::

    npm install @octokit/openapi
    python tests/data/cut_github.py node_modules/@octokit/openapi/generated/api.github.com.json

writes ``github-openapi.json.gz`` beside this file. The description is under the MIT licence, whose
text goes into its ``info`` as ``x-license-text``; ``x-cut`` there says what was left out.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

#: What is kept: each path with its methods.
KEPT = {
    "/rate_limit": ["get"],
    "/repos/{owner}/{repo}": ["get"],
    "/repos/{owner}/{repo}/releases": ["get", "post"],
    "/repos/{owner}/{repo}/releases/tags/{tag}": ["get"],
    "/repos/{owner}/{repo}/releases/{release_id}": ["get", "patch", "delete"],
    "/repos/{owner}/{repo}/releases/{release_id}/assets": ["get", "post"],
    "/repos/{owner}/{repo}/releases/assets/{asset_id}": ["get", "patch", "delete"],
}

#: The one example that is kept: a repository has too many required fields to make them up.
EXAMPLE = "full-repository-default-response"

TARGET = Path(__file__).with_name("github-openapi.json.gz")


def without_talk(node: Any) -> Any:
    """Return a copy without examples and descriptions, which nothing is checked against."""
    if isinstance(node, list):
        return [without_talk(item) for item in node]
    if not isinstance(node, dict):
        return node
    # a property may have such a name; then its value is a schema
    return {
        key: without_talk(value)
        for key, value in node.items()
        if not (key in ("example", "examples") or (key == "description" and isinstance(value, str)))
    }


def references(node: Any) -> set[str]:
    """Return all references of a part of the description."""
    if isinstance(node, list):
        return set().union(*map(references, node))
    if not isinstance(node, dict):
        return set()
    own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
    return own.union(*map(references, node.values()))


def cut(whole: dict[str, Any], licence: str) -> dict[str, Any]:
    """Return the paths that are kept with all that they refer to."""
    paths = {
        path: {
            method: {"description": "", **without_talk(whole["paths"][path][method])}
            for method in methods
        }
        for path, methods in KEPT.items()
    }
    components: dict[str, dict[str, Any]] = {}
    wanted, seen = references(paths), set()
    while wanted:
        reference = wanted.pop()
        seen.add(reference)
        _, _, kind, name = reference.split("/")
        part = without_talk(whole["components"][kind][name])
        components.setdefault(kind, {})[name] = part
        wanted |= references(part) - seen
    components["examples"] = {EXAMPLE: whole["components"]["examples"][EXAMPLE]}
    describe_answers(paths, components)
    info = {
        **whole["info"],
        "x-cut": "releases and assets only, no examples or descriptions",
        "x-license-text": licence,
    }
    kept = {key: whole[key] for key in ("openapi", "servers")}
    return {**kept, "info": info, "paths": paths, "components": components}


def describe_answers(paths: dict[str, Any], components: dict[str, Any]) -> None:
    """Give each answer the description without which the document would not be valid."""
    answers = list(components.get("responses", {}).values())
    for methods in paths.values():
        for operation in methods.values():
            answers += operation["responses"].values()
    for answer in answers:
        if "$ref" not in answer:
            answer.setdefault("description", "")


def main() -> None:
    """Cut the file named on the command line."""
    source = Path(sys.argv[1])
    whole = json.loads(source.read_text("utf-8"))
    licence = (source.parents[1] / "LICENSE").read_text("utf-8")
    text = json.dumps(cut(whole, licence), sort_keys=True, separators=(",", ":"))
    # without a time stamp, so that the same description gives the same file
    TARGET.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    print(f"{TARGET.name}: {len(text)} characters, version {whole['info']['version']}")


if __name__ == "__main__":
    main()
