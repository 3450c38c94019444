"""model-card.md: what a person should know of a model before using it, in the words of its own description.

Whatever the description does not hold is left out, or said to be unknown; nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from convolve.graph.graph import Graph
from convolve.importers.presets import PRESETS
from convolve.recipe import ModelSpec
from convolve.records import Metadata, TrainingInfo
from convolve.training.calibration import wilson_interval
from convolve.transforms.preprocess import Preprocess

CARD = "model-card.md"
MOST_NAMES = 100  # class names; more are in model.json


def model_card(
    architecture: ModelSpec | Graph,
    module: nn.Module,
    preprocess: Preprocess,
    metadata: Metadata,
    file: tuple[str, str],
    *,
    takes_pixels: bool = False,
) -> str:
    """The card, in Markdown. `file` is the name and SHA-256 of what holds the weights. `takes_pixels`: it takes uint8
    (N, H, W, C) and does the arithmetic itself."""
    names, info = metadata.class_names, metadata.training_info
    parts = [
        f"# {_title(architecture, metadata)}",
        f"An image classifier for {len(names):,} classes.",
        _facts(architecture, module, preprocess, file, takes_pixels),
        "## Training",
        _training(metadata),
        "## Error",
        _error(info),
        "## Preprocessing",
        _preprocessing(preprocess, takes_pixels),
        "## Classes",
        _classes(names),
        "## Limits",
        _limits(len(names), info, preprocess),
    ]
    return "\n\n".join(parts) + "\n"


def card_path(file: Path) -> Path:
    """Where the card of an exported file lies: beside it."""
    return file.with_name(f"{file.stem}-{CARD}")


def _title(architecture: ModelSpec | Graph, metadata: Metadata) -> str:
    imported = (metadata.training_info.imported_from or "").partition(" (")[0]
    network = imported or ("an imported network" if isinstance(architecture, Graph) else architecture.name)
    return _plain(f"{network}, trained on {metadata.data}" if metadata.data else network)


def _facts(
    architecture: ModelSpec | Graph, module: nn.Module, want: Preprocess, file: tuple[str, str], takes_pixels: bool
) -> str:
    channels, height, width = want.shape_CHW
    planes, pixels = f"float32, (N, {channels}, {height}, {width})", f"uint8, (N, {height}, {width}, {channels})"
    rows = {
        "network": _plain(_network(architecture)),
        "parameters": f"{sum(p.numel() for p in module.parameters()):,}",
        "input": pixels if takes_pixels else planes,
        "file": f"{_plain(file[0])}, SHA-256 `{file[1]}`",
    }
    return "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows.items())])


def _network(architecture: ModelSpec | Graph) -> str:
    if isinstance(architecture, Graph):
        origin = f" from {architecture.origin}" if architecture.origin else ""
        return f"imported{origin}, {len(architecture.nodes)} operations"
    return f"{architecture.name}, variant {architecture.variant}" if architecture.variant else architecture.name


def _training(metadata: Metadata) -> str:
    info = metadata.training_info
    if info.imported_from:
        source = _plain(info.imported_from)
        return f"Imported from {source}, not trained by convolve. What it learned from is for its source to say."
    if not info.recipe:
        return "Nothing is known of it."
    kept = info.epoch_kept if info.epoch_kept != info.epochs else None
    words = [f"recipe {_plain(info.recipe)}", f"data {_plain(metadata.data or 'unnamed')}"]
    words += [f"{info.train_images:,} images"] if info.train_images else []
    words += [f"{info.epochs:,} epochs"] if info.epochs else []
    words += [f"the one kept is epoch {kept}, the best on a validation split"] if kept else []
    words += ["weights averaged over time"] if info.weights_averaged else []
    words += [f"started from {_plain(info.started_from)}"] if info.started_from else []
    words += [f"{name} {_plain(value)}" for name in ("seed", "precision", "convolve")
              if (value := getattr(info, name)) is not None]  # fmt: skip
    data = f"\n\nFingerprint of the data: {_plain(info.data_fingerprint)}." if info.data_fingerprint else ""
    return f"{_sentence(words)}.{data}"


def _error(info: TrainingInfo) -> str:
    error, images, top5 = info.test_error, info.test_images, info.test_error_top5
    if error is None:
        return _published(info) + "Not measured here. `convolve evaluate MODEL --data DATA` measures it."
    words = f"**{_percent(error)}** test error"
    if images:
        low, high = wilson_interval(error, images)
        interval = f"95 % interval {_percent(low)} to {_percent(high)}"
        words += f": {round(error * images):,} of {images:,} images wrong, {interval}"
    words += "" if top5 is None else f"; {_percent(top5)} of the images are not of the first five classes named"
    return (
        f"{words}.\n\nMeasured once, when the training had ended, on the whole test part of the data: one view of each "
        "image, in fp32, with the preprocessing below. No test image was trained on."
    )


def _published(info: TrainingInfo) -> str:
    preset = PRESETS.get(info.preset or "")
    if preset is None:
        return ""
    errors = {"": preset.published_error, " of the first five answers": preset.published_error_top5}
    told = [f"{_percent(value)} error{of}" for of, value in errors.items() if value is not None]
    return f"Published: {', '.join(told)} (one central crop; preset {preset.name}). " if told else ""


def _preprocessing(want: Preprocess, takes_pixels: bool) -> str:
    size = f"{want.width}x{want.height}"
    square = "square" if want.side_ratio == 1 else f"square of {want.side_ratio:.10g} of the shorter side"
    manner = {
        "cover": f"scaled to cover {size}, the centre cut out",
        "square": f"the central {square}, scaled to {size}",
        "squash": f"the whole image, scaled to {size}",
    }
    colours = {"grey": "one plane of grey", "rgb": "planes of red, green, blue", "bgr": "planes of blue, green, red"}
    means = want.mean if isinstance(want.mean, tuple) else (want.mean,)
    mean = "mean image" if want.mean_image_CHW is not None else ", ".join(f"{value:.9g}" for value in means)
    inside = " The file does this arithmetic itself." if takes_pixels else ""
    assumed = "**assumed**, as its source does not say it; a wrong one gives wrong answers without a word"
    lines = [
        f"- Size: {manner[want.resize]}.",
        f"- Colours: {colours[str(want.channel_order)]}.",
        f"- Values: (pixel - {f'({mean})' if len(means) > 1 else mean}) * {want.scale:.9g}, pixels 0 to 255.{inside}",
        f"- Known from: {_plain(want.known_from) or assumed}.",
    ]
    return "\n".join(lines)


def _classes(names: Sequence[str]) -> str:
    shown = "\n".join(f"{k}. {_plain(name)}" for k, name in enumerate(names[:MOST_NAMES]))
    rest = f"\n\nand {len(names) - MOST_NAMES:,} more, which `model.json` or the file's metadata names"
    return f"In the order of the outputs:\n\n{shown}" + (rest if len(names) > MOST_NAMES else "")


def _limits(classes: int, info: TrainingInfo, want: Preprocess) -> str:
    gap = info.calibration_error
    apart = "" if gap is None else f"; on the test images it is {_percent(gap)} off (expected calibration error)"
    lines = [
        f"It knows these {classes:,} classes and answers with one of them, whatever the image shows.",
        "The error holds for images like those it was measured on. Another camera, another crop or another time can "
        "give a far higher one: measure it on your own.",
        f"A probability is the model's confidence, not a promise{apart}.",
        f"Details that are lost at {want.width}x{want.height} pixels, it cannot see.",
        "Nobody has examined it for uses where a wrong answer does harm.",
    ]
    return "\n".join(f"- {line}" for line in lines)


def _sentence(words: Sequence[str]) -> str:
    text = ", ".join(words)
    return text[:1].upper() + text[1:]


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"


def _plain(text: object) -> str:
    """One line that Markdown shows as it stands: names come from data."""
    return re.sub(r"([\\`*_{}\[\]<>|#~&$])", r"\\\1", " ".join(str(text).split()))
