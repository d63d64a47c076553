"""The files that browsers get: the search page, and the page of the interface.

Nothing is loaded from another server, so both work without a network.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

__all__ = ["interface_page", "page_file"]

_FOLDER = Path(__file__).with_name("static")


@cache
def page_file(name: str) -> bytes:
    """Return a file of the search page: ``page.html``, ``page.css`` or ``page.js``."""
    return (_FOLDER / name).read_bytes()


def interface_page(schema: Mapping[str, Any]) -> str:
    """Return a page in HTML of all that an OpenAPI document describes.

    Args:
        schema: the document.
    """
    parts = list(_operations(schema))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Interface</title>'
        '<meta name="viewport" content="width=device-width">'
        '<link rel="stylesheet" href="/page.css"></head><body class="interface">'
        '<header><h1>Interface</h1><nav><a href="/">Search</a> '
        '<a href="/openapi.json">OpenAPI document</a></nav></header><main>'
        f"<p>{escape(schema['info']['description'])}</p>{''.join(parts)}</main></body></html>"
    )


def _operations(schema: Mapping[str, Any]) -> Iterator[str]:
    for path, methods in schema["paths"].items():
        for method, of in methods.items():
            yield (
                f'<section><h2><span class="method">{escape(method.upper())}</span> '
                f"<code>{escape(path)}</code></h2><p>{escape(of.get('description', ''))}</p>"
            )
            rows = list(_parameters(of, schema))
            if rows:
                yield (
                    '<div class="table" role="region" tabindex="0" '
                    f'aria-label="Parameters of {escape(path)}"><table><thead><tr><th>name<th>in'
                    f"<th>type<th>what it is</tr></thead>"
                    f"<tbody>{''.join(rows)}</tbody></table></div>"
                )
            yield "</section>"


def _parameters(of: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[str]:
    for parameter in of.get("parameters", []):
        field = parameter["schema"] | {"description": parameter.get("description", "")}
        yield _row(parameter["name"], parameter["in"], field, parameter["required"])
    for kind, content in of.get("requestBody", {}).get("content", {}).items():
        body = content["schema"]
        if "$ref" in body:
            body = schema["components"]["schemas"][body["$ref"].rpartition("/")[2]]
        for name, field in body.get("properties", {}).items():
            place = "form" if "form" in kind else "JSON"
            yield _row(name, place, field, name in body.get("required", []))


def _row(name: str, place: str, field: Mapping[str, Any], required: bool) -> str:
    kinds = [one.get("type", "") for one in field.get("anyOf", [field])]
    kind = " or ".join(kind for kind in kinds if kind not in ("", "null"))
    words = "file" if field.get("contentMediaType") or field.get("format") == "binary" else kind
    note = field.get("description", "") + ("" if required else " (optional)")
    return (
        f"<tr><td><code>{escape(name)}</code><td>{place}<td>{escape(words)}<td>{escape(note)}</tr>"
    )
