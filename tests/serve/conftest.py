"""A model of digits, and a server with two models, for the files that do not make their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from serving import Client, serving

from convolve.loading import load
from convolve.model import Model


@pytest.fixture(scope="module")
def digits(model: Path) -> Model:
    return load(model)


@pytest.fixture(scope="module")
def client(digits: Model) -> Iterator[Client]:
    """Two models; the second gives the same classes other names."""
    with serving({"digits": digits, "letters": replace(digits, class_names=tuple("abcdefghij"))}) as client:
        yield client
