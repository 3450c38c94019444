"""The reader block of a configuration: which file, which streams, and what is done to images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from convolve.errors import UsageError
from convolve.importers.brainscript.config import Block
from convolve.importers.brainscript.sgd import Refuse
from convolve.transforms.image_spec import Colour, Crop, Intensity, Scale
from convolve.transforms.spec import Transform

# These change how fast samples come, and in which order.
_PASSED_OVER = (
    "verbosity traceLevel randomizationWindow sampleBasedRandomizationWindow frameMode truncated keepDataInMemory "
    "chunkSizeInBytes numCPUThreads prefetch cacheIndex"
)
_TRUE = ("true", "t", "1", "auto")


@dataclass(frozen=True)
class Reader:
    """`features` and `labels` are the names of the streams. `dim` is the number of values of a sample of text; images
    have `transforms` and perhaps a mean file."""

    kind: Literal["text", "images"]
    file: str
    features: str
    labels: str
    classes: int
    randomize: bool
    dim: int = 0
    transforms: tuple[Transform, ...] = ()
    mean_file: str = ""
    grey: bool = False


def read_reader(block: Block, refuse: Refuse) -> Reader:
    """A CNTKTextFormatReader, an ImageReader of either form, or one deserializer of these kinds."""
    for key in _PASSED_OVER.split():
        block.find(key)
    randomize = block.text("randomize", "true").lower() in _TRUE
    kind = block.text("readerType", inherit=False).lower()
    deserializers = block.blocks("deserializers", inherit=False)
    if deserializers is None:
        source, form = block, kind
    else:
        source, form = deserializers[0], deserializers[0].text("type", inherit=False).lower()
        source.find("module")
        if len(deserializers) > 1:
            refuse(block, "deserializers", "more than one")
    if form in ("cntktextformatreader", "cntktextformatdeserializer"):
        return _text(source, randomize, refuse)
    if form in ("imagereader", "imagedeserializer"):
        return _images(source, source.block("input", inherit=False) or source, randomize, refuse)
    refuse(source, "readerType" if deserializers is None else "type", f"the reader {form or 'without a type'}")
    return Reader("text", "", "", "", 0, randomize)


def _text(block: Block, randomize: bool, refuse: Refuse) -> Reader:
    streams = block.block("input", inherit=False)
    found = streams.inner_blocks() if streams else {}
    for name, stream in found.items():
        if stream.text("format", "dense", inherit=False).lower() != "dense" or stream.text("alias", name) != name:
            refuse(stream, "format", "streams that are sparse or have an alias")
    names = [*found]
    if {*names} != {"features", "labels"}:
        refuse(block, "input", f"streams other than `features` and `labels` ({', '.join(names) or 'none'})")
        return Reader("text", block.text("file"), "", "", 0, randomize)
    if block.integer("maxErrors", 0, inherit=False) or block.flag("skipSequenceIds", inherit=False):
        refuse(block, "maxErrors", "damaged lines, or lines with sequence ids,")
    dims = {name: stream.integer("dim", 0, inherit=False) for name, stream in found.items()}
    return Reader("text", block.text("file"), "features", "labels", dims["labels"], randomize, dims["features"])


def _images(block: Block, streams: Block, randomize: bool, refuse: Refuse) -> Reader:
    sections = streams.inner_blocks()
    labels = [name for name, section in sections.items() if section.find("labelDim", inherit=False)]
    features = [name for name in sections if name not in labels]
    if len(labels) != 1 or len(features) != 1:
        raise streams.here.error(f"{streams.name}: one section with images and one with labelDim are wanted")
    image = sections[features[0]]
    listed = image.blocks("transforms", inherit=False)
    if listed is None:  # the old reader: one section with all options, in an order of its own
        wanted = ("width", "height", "channels")
        if not all(image.find(key, inherit=False) for key in wanted):
            raise image.here.error(f"{image.name} has neither transforms nor width, height and channels")
        mean = image.text("meanFile", inherit=False)
        specs = [_made(image, make) for make in (_crop, _scale, _colour, _intensity)]
    else:
        specs, mean = [], ""
        for transform in listed:
            specs.append(_transform(transform, refuse))
            mean = transform.text("meanFile", mean, inherit=False)
    for key in ("multiViewCrop",):
        if block.flag(key, inherit=False):
            refuse(block, key, "true")
    return Reader(
        "images", block.text("file"), features[0], labels[0], sections[labels[0]].integer("labelDim", 0), randomize,
        transforms=tuple(spec for spec in specs if spec is not None), mean_file=mean,
        grey=block.flag("grayscale", inherit=False),
    )  # fmt: skip


def _transform(block: Block, refuse: Refuse) -> Transform | None:
    kind = block.text("type", inherit=False).lower()
    makers: dict[str, Callable[[Block], Transform | None]] = {
        "crop": _crop, "color": _colour, "colour": _colour, "intensity": _intensity,
        "scale": _scale,
        "mean": lambda block: None, "transpose": lambda block: None, "cast": lambda block: None,
    }  # fmt: skip
    if kind not in makers:
        refuse(block, "type", f"the transform {kind or 'without a type'}")
        return None
    return _made(block, makers[kind])


def _made(block: Block, make: Callable[[Block], Transform | None]) -> Transform | None:
    try:
        return make(block)
    except UsageError as error:  # a value out of range
        raise block.here.error(str(error)) from None


def _crop(block: Block) -> Crop:
    size = block.integers("cropSize", (0, 0), inherit=False)
    flip = block.find("hflip", inherit=False)
    kinds = {"random": "randomside"} | {kind: kind for kind in ("center", "randomside", "randomarea", "multiview10")}
    return Crop(
        crop_type=kinds[block.choice("cropType", [*kinds], "center", False)],  # type: ignore[arg-type]
        crop_width=size[0], crop_height=size[-1],
        side_ratio=_ratio(block, "sideRatio") or _ratio(block, "cropRatio"), area_ratio=_ratio(block, "areaRatio"),
        aspect_ratio=_ratio(block, "aspectRatio") or (1.0,),
        jitter_type=block.choice("jitterType", ("none", "uniratio"), "none", False),  # type: ignore[arg-type]
        hflip=None if flip is None else block.flag("hflip", inherit=False),
    )  # fmt: skip


def _ratio(block: Block, key: str) -> tuple[float, ...]:
    """One number or min:max; 0 stands for none."""
    values = block.numbers(key, (), inherit=False)
    return values if any(values) else ()


def _scale(block: Block) -> Scale:
    block.find("channels", inherit=False)  # the network says it too
    interpolations = ("linear", "nearest", "cubic", "lanczos")
    return Scale(
        width=block.integer("width", 0, inherit=False),
        height=block.integer("height", 0, inherit=False),
        interpolation=block.choice("interpolations", interpolations, "linear", False),  # type: ignore[arg-type]
        scale_mode=block.choice("scaleMode", ("fill", "crop", "pad"), "fill", False),  # type: ignore[arg-type]
        pad_value=block.integer("padValue", -1, inherit=False),
    )


def _colour(block: Block) -> Colour | None:
    radii = [block.number(f"{name}Radius", 0.0, False) for name in ("brightness", "contrast", "saturation")]
    return Colour(*radii) if any(radii) else None


def _intensity(block: Block) -> Intensity | None:
    file, deviation = block.text("intensityFile", "", False), block.number("intensityStdDev", 0.0, False)
    return Intensity(file, deviation) if file and deviation else None
