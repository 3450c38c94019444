"""convolve serve"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convolve.cli import asked as options
from convolve.errors import UsageError, install_hint


def serve(
    model: Annotated[
        Path, typer.Argument(help="A model folder, a run folder, a CNTK model, or net.prototxt+net.caffemodel.")
    ],
    host: Annotated[str, typer.Option(help="Where to listen; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any that is free.")] = 8000,
    preset: options.Preset = None,
    mean: options.Mean = None,
    channel_order: options.Order = None,
    scale: options.Scale = None,
    labels: options.Labels = None,
    image_shape: options.ImageShape = None,
) -> None:
    """Open a local web page: give or draw a picture, see the answer.

    It shows what the model sees and where it looks. Programs ask POST /predict.

    Example: convolve serve runs/mnist
    """
    try:
        from convolve.serve.server import address_of, is_open, listen, server_for
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn"):
            raise
        raise UsageError(f"serve needs the package {error.name}: {install_hint('serve')}") from None

    from convolve.model import load
    from convolve.serve.app import create_app
    from convolve.training.memory import keep_freed_memory

    keep_freed_memory()  # AlexNet answers in a fifth less processor time
    with listen(host, port) as listener:
        opened = load(model, options.asked(preset, mean, channel_order, scale, labels, image_shape))
        opened.require_images()
        server = server_for(create_app(opened, model.resolve().name, host))
        print(f"serving {model} on {address_of(listener)}")
        print(f"open to {_reach(is_open(listener))}; Ctrl-C ends it", flush=True)
        server.run([listener])


def _reach(others: bool) -> str:
    if others:
        return "every machine that reaches this one, without a password or encryption"
    return "this machine only (--host 0.0.0.0 lets others in)"
