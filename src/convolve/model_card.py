"""model-card.md: what people should know about a model before they use it, taken from its own description.

It begins with the YAML front matter that the Hugging Face Hub reads. What the description lacks is left out or called
unknown; nothing is guessed.
"""

import hashlib
from pathlib import Path

from torch import nn

from convolve.atomic import write_text
from convolve.graph.graph import Graph
from convolve.importers.presets import presets
from convolve.records import ONE_CLASS, Metadata, TrainingInfo
from convolve.specs.model import NetworkSpec
from convolve.templates import hundredths, render
from convolve.training.calibration import wilson_interval
from convolve.training.metrics import in_words
from convolve.transforms.preprocess import TURNED, Preprocess

CARD = "model-card.md"
MOST_NAMES = 100  # class names; further ones are in model.json
_COLORS = {"gray": "one plane of gray", "rgb": "planes of red, green, blue", "bgr": "planes of blue, green, red"}


def model_card(
    architecture: NetworkSpec | Graph,
    module: nn.Module,
    preprocess: Preprocess,
    metadata: Metadata,
    file: tuple[str, str],
    *,
    takes_pixels: bool = False,
    any_size: bool = False,
) -> str:
    """The card, in Markdown. `file` is the name and SHA-256 of what holds the weights. `takes_pixels`: it takes uint8
    (N, H, W, C) and normalizes it itself; `any_size`: one (H, W, 3), which it also resizes."""
    info = metadata.training_info
    channels, height, width = preprocess.shape_CHW
    return render(
        "model_card.jinja",
        title=_title(architecture, metadata),
        network=_network(architecture),
        parameters=sum(p.numel() for p in module.parameters()),
        tags=["convolve", *([] if isinstance(architecture, Graph) else [architecture.name])],
        measured=_measured(info),
        names=metadata.class_names,
        most_names=MOST_NAMES,
        data=metadata.data,
        quantized=metadata.quantized,
        info=info,
        target=(metadata.target or ONE_CLASS).kind.value,
        limits=(metadata.target or ONE_CLASS).thresholds,
        figures=in_words(vars(info), "test") if metadata.target else [],
        interval=wilson_interval(info.test_error or 0, info.test_images) if info.test_images else None,
        published=_published(info),
        file=file,
        takes_pixels=takes_pixels,
        any_size=any_size,
        channels=channels,
        height=height,
        width=width,
        **_preprocessing(preprocess),
    )


def write_card(
    path: Path,
    architecture: NetworkSpec | Graph,
    module: nn.Module,
    preprocess: Preprocess,
    metadata: Metadata,
    **inside: bool,
) -> None:
    """Write the card of an exported file beside it; `inside`: further arguments of `model_card`."""
    with path.open("rb") as file:
        stored = path.name, hashlib.file_digest(file, "sha256").hexdigest()
    write_text(card_path(path), model_card(architecture, module, preprocess, metadata, stored, **inside))


# Figure -> its name among the Hub's metrics; an error is reported as accuracy, 1 - error.
_METRICS = {
    "test_error": "accuracy", "test_macro_f1": "f1", "test_mean_average_precision": "mean_average_precision",
    "test_mean_absolute_error": "mae", "test_r2": "r_squared",
}  # fmt: skip


def _measured(info: TrainingInfo) -> list[dict[str, str | float]]:
    known = {name: getattr(info, name) for name in _METRICS if getattr(info, name) is not None}
    values = {name: 1 - value if name == "test_error" else value for name, value in known.items()}
    return [{"type": _METRICS[name], "value": value} for name, value in values.items()]


def card_path(file: Path) -> Path:
    """The path of an exported file's card: beside the file."""
    return file.with_name(f"{file.stem}-{CARD}")


def _title(architecture: NetworkSpec | Graph, metadata: Metadata) -> str:
    imported = (metadata.training_info.imported_from or "").partition(" (")[0]
    network = imported or ("an imported network" if isinstance(architecture, Graph) else architecture.name)
    note = f" ({metadata.training_info.data_note})" if metadata.training_info.data_note else ""
    return f"{network}, trained on {metadata.data}{note}" if metadata.data else network


def _network(architecture: NetworkSpec | Graph) -> str:
    if isinstance(architecture, Graph):
        origin = f" from {architecture.origin}" if architecture.origin else ""
        return f"imported{origin}, {len(architecture.nodes)} operations"
    return f"{architecture.name}, variant {architecture.variant}" if architecture.variant else architecture.name


def _published(info: TrainingInfo) -> str:
    preset = presets().get(info.preset or "")
    if preset is None:
        return ""
    errors = {"": preset.published_error, " of the first five answers": preset.published_error_top5}
    told = [f"{hundredths(value)} error{of}" for of, value in errors.items() if value is not None]
    return f"{', '.join(told)} (one central crop; preset {preset.name})" if told else ""


def _preprocessing(preprocess: Preprocess) -> dict[str, str]:
    return {
        "size": preprocess.size_in_words,
        "orientation": TURNED[preprocess.orientation],
        "colors": _COLORS[str(preprocess.channel_order)],
        "values": preprocess.arithmetic(digits=9),
        "known_from": preprocess.known_from,
    }
