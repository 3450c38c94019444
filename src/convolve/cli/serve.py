"""convolve serve"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from convolve.cli.options import Accept, MaxMegapixels, Overrides, with_overrides
from convolve.errors import UsageError, install_hint


@with_overrides
def serve(
    model: Annotated[
        Path, typer.Argument(help="A model folder, a run folder, a CNTK model, or net.prototxt+net.caffemodel.")
    ],
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 accepts other machines.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes any free one.")] = 8000,
    max_megapixels: MaxMegapixels = None,
    accept: Accept = None,
    *,
    overrides: Overrides,
) -> None:
    """Serve a local web page that classifies a picture or a drawing.

    It shows what the model sees and where it looks. Programs send images to POST /predict.

    Example: convolve serve runs/mnist
    """
    try:
        from convolve.serve.server import address_of, is_open, listen, server_for
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn"):
            raise
        raise UsageError(f"serve needs the package {error.name}: {install_hint('serve')}") from None

    from convolve.formats.decode import pixel_limit
    from convolve.loading import load
    from convolve.serve.app import create_app
    from convolve.serve.upload import Limits
    from convolve.training.memory import keep_freed_memory

    keep_freed_memory()  # AlexNet answers in a fifth less processor time
    with listen(host, port) as listener:
        opened = load(model, overrides)
        opened.require_classes()
        opened.require_images()
        opened.ask(accept, None)
        server = server_for(create_app(opened, model.resolve().name, host, Limits(pixels=pixel_limit(max_megapixels))))
        print(f"serving {model} on {address_of(listener)}")
        print(f"open to {_reach(is_open(listener))}; Ctrl-C ends it", flush=True)
        server.run([listener])


def _reach(others: bool) -> str:
    if others:
        return "every machine that reaches this one, without a password or encryption"
    return "this machine only (--host 0.0.0.0 lets others in)"
