"""The API's own description: `/openapi.json`, and a page of it."""

from collections.abc import Iterable
from importlib import resources
from typing import Any

import yaml

from convolve.templates import render


def openapi(names: Iterable[str]) -> dict[str, Any]:
    """The document, for a server with models of these names."""
    text = (resources.files("convolve.serve") / "openapi.yaml").read_text(encoding="utf-8")
    document: dict[str, Any] = yaml.safe_load(text)
    document["components"]["schemas"]["Model"]["enum"] = [*names]
    return document


def openapi_page(document: dict[str, Any]) -> str:
    names = document["components"]["schemas"]["Model"]["enum"]
    return render("serve/api.html", info=document["info"], paths=document["paths"], names=names)
