"""convolve serve"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convolve.cli.options import Accept, AsJson, MaxMegapixels, Overrides, with_overrides
from convolve.errors import UsageError, install_hint

if TYPE_CHECKING:
    from convolve.importers.loader import PreprocessOverrides
    from convolve.model import Model

_DOOR = "Who may ask"


@with_overrides
def serve(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]MODEL",
            help="Run folders, model folders, CNTK files, ONNX files, net.prototxt+net.caffemodel. Each is at /NAME/, "
            "the first at / too.",
        ),
    ],
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="The address to listen on. 0.0.0.0 lets other machines in.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="The port. 0: any free one.")] = 8000,
    public_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[:PORT]",
            help="A name under which a proxy or a network reaches the server. Repeatable.",
            rich_help_panel=_DOOR,
        ),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL",
            help="A website whose pages may ask, or * for all. Repeatable.",
            rich_help_panel=_DOOR,
        ),
    ] = None,
    root_path: Annotated[
        str, typer.Option(metavar="PATH", help="The prefix that a proxy puts before every path.", rich_help_panel=_DOOR)
    ] = "",
    proxy_headers: Annotated[
        bool,
        typer.Option(
            "--proxy-headers",
            help="Trust the X-Forwarded-For and -Proto headers of a proxy on this machine, or at $FORWARDED_ALLOW_IPS.",
            rich_help_panel=_DOOR,
        ),
    ] = False,
    token: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Answer only requests with one of the tokens in this file, one per line.",
            rich_help_panel=_DOOR,
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Encrypt, with this PEM certificate.", rich_help_panel=_DOOR)
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The certificate's private key, if its file has none.", rich_help_panel=_DOOR
        ),
    ] = None,
    access_log: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Append a line of JSON for each request to this file.")
    ] = None,
    onnxruntime: Annotated[
        bool,
        typer.Option(
            "--onnxruntime/--no-onnxruntime",
            help="Answer with onnxruntime instead of torch, as soon as the network has been converted in the "
            "background.",
        ),
    ] = True,
    max_megapixels: MaxMegapixels = None,
    accept: Accept = None,
    as_json: AsJson = False,
    *,
    overrides: Overrides,
) -> None:
    """Serve a web page and an API that ask a model.

    The page classifies a picture or a drawing, and shows the model's input and the regions that matter most. Programs
    send images to POST /predict; GET /docs describes the API.

    Example: convolve serve runs/mnist
    """
    try:
        import python_multipart  # noqa: F401  Starlette wants it for forms, and would say so to who sends one

        from convolve.serve.app import create_app
        from convolve.serve.server import address_of, is_open, listen, server_for
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn", "httptools", "prometheus_client", "python_multipart"):
            raise
        raise UsageError(f"serve needs the package {error.name}: {install_hint('serve')}") from None

    from convolve.export.onnx import note_of
    from convolve.formats.decode import pixel_limit
    from convolve.serve.access_log import AccessLog
    from convolve.serve.guard import Access, guarded, read_tokens
    from convolve.serve.names import named_models
    from convolve.serve.server import tls_files
    from convolve.serve.upload import Limits
    from convolve.training.memory import keep_freed_memory

    paths, tokens = named_models(models), read_tokens(token) if token else ()
    public_hosts, origins = ([name.lower() for name in names or ()] for names in (public_host, allow_origin))
    access = Access(host, public_hosts, origins, tokens, root_path)
    tls = tls_files(tls_cert, tls_key)
    keep_freed_memory()  # AlexNet then answers in a fifth less processor time
    with listen(host, port) as listener, AccessLog.to(access_log) as log:
        opened = {name: _open(path, overrides, accept) for name, path in paths.items()}
        app = create_app(opened, Limits(pixels=pixel_limit(max_megapixels)), engines=onnxruntime)
        for note in filter(None, (note_of(model.module) for model in opened.values())):
            print(f"note: {note}", file=sys.stderr)
        server = server_for(log(guarded(app, access)), tls, proxy_headers=proxy_headers)
        reach = _reach(is_open(listener), token, tls)
        print(_told(paths, models, f"{address_of(listener, tls)}{root_path}", reach, as_json), flush=True)
        server.run([listener])


def _told(paths: dict[str, Path], models: list[str], address: str, reach: str, as_json: bool) -> str:
    """Where the server listens: two lines of text, or one line of JSON."""
    if as_json:
        named = {name: str(path) for name, path in paths.items()}
        return json.dumps({"address": address, "models": named, "open_to": reach})
    return f"serving {', '.join(models)} on {address}\nopen to {reach}; Ctrl-C stops it"


def _open(path: Path, overrides: PreprocessOverrides, accept: float | None) -> Model:
    from convolve.loading import load

    model = load(path, overrides)
    model.require_classes()
    model.require_images()
    model.ask(accept, None)
    return model


def _reach(others: bool, token: Path | None, tls: object) -> str:
    if not others:
        return "this machine only (--host 0.0.0.0 lets others in)"
    missing = [
        *([] if token else ["a password (--token)"]),
        *([] if tls else ["encryption (--tls-cert)"]),
    ]
    return "every machine that reaches this one" + (f", without {' or '.join(missing)}" if missing else "")
