"""The reader block of a configuration: which files, which streams, and what is done to images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from convolve.errors import UsageError
from convolve.formats.columns import Columns
from convolve.importers.brainscript.config import Block
from convolve.importers.brainscript.sgd import Refuse
from convolve.transforms.color import Color
from convolve.transforms.crop import Crop
from convolve.transforms.intensity import Intensity
from convolve.transforms.scale import Scale
from convolve.transforms.transform import Transform

# These change how fast samples come, and in which order.
_PASSED_OVER = (
    "verbosity traceLevel randomizationWindow sampleBasedRandomizationWindow frameMode truncated keepDataInMemory "
    "chunkSizeInBytes numCPUThreads prefetch cacheIndex useNumericSequenceKeys multiThreadedDeserialization precision"
)
_TRUE = ("true", "t", "1", "auto")
_TEXT = ("cntktextformatreader", "cntktextformatdeserializer")
_IMAGES: dict[str, Literal["map", "base64"]] = {
    "imagereader": "map", "imagedeserializer": "map", "base64imagedeserializer": "base64",
}  # fmt: skip


@dataclass(frozen=True)
class TextStream:
    """A stream of a CTF file: `token` is its name in the file, `dim` the number of its values."""

    name: str
    file: str
    token: str
    dim: int
    sparse: bool


@dataclass(frozen=True)
class Images:
    """The images of a map file, or of a file that has them in base64; `mean_file` is "" if there is none."""

    file: str
    form: Literal["map", "base64"]
    transforms: tuple[Transform, ...]
    mean_file: str
    gray: bool


@dataclass(frozen=True)
class Reader:
    """Where the features and the labels come from; without `labels`, each sample has its label in the same file.
    `interleaved`: a text file has images in the order (H, W, C)."""

    features: Images | TextStream | Columns
    labels: TextStream | None
    classes: int
    randomize: bool
    interleaved: bool = False

    @property
    def transforms(self) -> tuple[Transform, ...]:
        return self.features.transforms if isinstance(self.features, Images) else ()


@dataclass(frozen=True)
class _Source:
    """What one deserializer delivers: streams of text, or images called `name` with labels called `labels`."""

    texts: tuple[TextStream, ...] = ()
    images: Images | Columns | None = None
    name: str = ""
    labels: str = ""
    classes: int = 0


def read_reader(block: Block, names: tuple[str, str], refuse: Refuse) -> Reader:
    """A CNTKTextFormatReader, an ImageReader of either form, or deserializers of these kinds.

    `names` are those of the network's features and labels; "" if they are not known.
    """
    for key in _PASSED_OVER.split():
        block.find(key)
    randomize = block.text("randomize", "true").lower() in _TRUE
    deserializers = block.blocks("deserializers", inherit=False)
    if deserializers is None:
        kind = block.text("readerType", inherit=False)
        sources = [_source(block, kind, "readerType", refuse)]
    else:
        sources = [_source(each, each.text("type", inherit=False), "type", refuse) for each in deserializers]
        for each in deserializers:
            each.find("module")
    return replace(_paired(block, sources, names, refuse), randomize=randomize)


def _source(block: Block, kind: str, key: str, refuse: Refuse) -> _Source:
    for passed in _PASSED_OVER.split():
        block.find(passed)
    if kind.lower() in _TEXT:
        return _texts(block, refuse)
    if kind.lower() in _IMAGES:
        streams = block.block("input", inherit=False) or block
        return _images(block, streams, _IMAGES[kind.lower()], refuse)
    if kind.lower() == "ucifastreader":
        return _columns(block, refuse)
    refuse(block, key, f"the reader {kind.lower() or 'without a type'}")
    block.pass_over()
    return _Source()


def _paired(block: Block, sources: Sequence[_Source], names: tuple[str, str], refuse: Refuse) -> Reader:
    """The streams that the network reads: those named like its inputs, or, without names, those of the right kind."""
    texts = {stream.name: stream for source in sources for stream in source.texts}
    images = [source for source in sources if source.images]
    if len(images) > 1:
        refuse(block, "deserializers", "several readers of images")
    features, labels = names
    if images:
        source = images[0]
        assert source.images is not None  # `images` has such sources only
        own = labels in ("", source.labels) or labels not in texts
        stream = None if own else texts[labels]
        return Reader(source.images, stream, source.classes if stream is None else stream.dim, True)
    labels = labels or next((name for name in texts if "label" in name.lower()), "")
    features = features or next((name for name in texts if name != labels), "")
    missing = [f"{what} {name!r}" for what, name in (("features", features), ("labels", labels)) if name not in texts]
    if missing and texts:
        found = ", ".join(texts)
        what = f"{block.name} has no stream for {' and '.join(missing)} of the network; it has {found}"
        raise block.error("input", what)
    if missing:
        return Reader(TextStream("", "", "", 0, False), None, 0, True)
    return Reader(texts[features], texts[labels], texts[labels].dim, True)


def _texts(block: Block, refuse: Refuse) -> _Source:
    streams = block.block("input", inherit=False)
    if block.integer("maxErrors", 0, inherit=False):
        refuse(block, "maxErrors", "a file with damaged lines")
    block.find("skipSequenceIds")  # always skipped: an image is a sequence of its own
    found = []
    for name, stream in (streams.inner_blocks() if streams else {}).items():
        form = stream.choice("format", ("dense", "sparse"), "dense", inherit=False)
        stream.find("definesMBSize")
        token = stream.text("alias", name, inherit=False)
        dim = stream.integer("dim", 0, inherit=False)
        if dim < 1:
            raise stream.here.error(f"{stream.name} has no dim; give the number of values per sample")
        found.append(TextStream(name, _file(block), token, dim, form == "sparse"))
    if not found:
        raise block.here.error(f"{block.name} has no streams; name them in input = {{ ... }}")
    return _Source(tuple(found))


def _images(block: Block, streams: Block, form: Literal["map", "base64"], refuse: Refuse) -> _Source:
    sections = streams.inner_blocks()
    labels = [name for name, section in sections.items() if section.find("labelDim", inherit=False)]
    features = [name for name in sections if name not in labels]
    if len(labels) != 1 or len(features) != 1:
        raise streams.here.error(f"{streams.name}: one section with images and one with labelDim are expected")
    for name in sections:
        streams.find(name, inherit=False)
    image = sections[features[0]]
    listed = image.blocks("transforms", inherit=False)
    if listed is None:  # the old reader: one section with all options, in an order of its own
        wanted = ("width", "height", "channels")
        if not all(image.find(key, inherit=False) for key in wanted):
            raise image.here.error(f"{image.name} has neither transforms nor width, height and channels")
        mean = image.file("meanFile", inherit=False)
        specs = [_made(image, make) for make in (_crop, _scale, _color, _intensity)]
    else:
        specs, mean = [], ""
        for transform in listed:
            specs.append(_transform(transform, refuse))
            mean = transform.file("meanFile", inherit=False) or mean
    done = tuple(spec for spec in specs if spec is not None)
    ten_views = any(isinstance(spec, Crop) and spec.crop_type == "multiview10" for spec in done)
    if block.flag("multiViewCrop", inherit=False) or ten_views:
        refuse(block, "multiViewCrop", "ten views of an image (see `convolve evaluate --views 10`)")
    gray = block.flag("grayscale", inherit=False)
    classes = sections[labels[0]].integer("labelDim", 0)
    return _Source((), Images(_file(block), form, done, mean, gray), features[0], labels[0], classes)


def _columns(block: Block, refuse: Refuse) -> _Source:
    """The reader before CTF: features and a label in separate columns."""
    sections = block.inner_blocks()
    keys = ("labelDim", "labelType", "labelMappingFile")
    labels = [name for name, each in sections.items() if any(each.find(key, inherit=False) for key in keys)]
    features = [name for name in sections if name not in labels]
    if len(labels) != 1 or len(features) != 1:
        raise block.here.error(f"{block.name}: one section with features and one with labelDim are expected")
    feature, label = sections[features[0]], sections[labels[0]]
    for section in (feature, label):
        block.find(section.name.rpartition(".")[2], inherit=False)
    for key in ("miniBatchMode", "nbruttsineachrecurrentiter", "randomizationSeed"):
        block.find(key)
    kind = label.choice("labelType", ("category", "regression"), "category", inherit=False)
    dim = label.at_least(1, "dim", label.integer("dim", 1, inherit=False))
    classes = label.at_least(1, "labelDim", label.integer("labelDim", 0, inherit=False)) if kind == "category" else 0
    if kind == "category" and dim > 1:
        refuse(label, "dim", "a category of several columns")
    columns = Columns(
        file=_file(feature), start=feature.at_least(0, "start", feature.integer("start", 0, inherit=False)),
        dim=feature.at_least(1, "dim", feature.integer("dim", 0, inherit=False)),
        label=label.at_least(0, "start", label.integer("start", 0, inherit=False)),
        classes=classes, label_dim=dim,
        mapping=label.file("labelMappingFile", inherit=False), delimiter=block.text("customDelimiter"),
    )  # fmt: skip
    if (label.file("file") or columns.file) != columns.file:
        refuse(label, "file", "a separate file of labels")
    return _Source((), columns, features[0], labels[0], columns.classes or dim)


def _file(block: Block) -> str:
    file = block.file("file")
    if not file:
        raise block.here.error(f"{block.name} has no file; say where its data is")
    return file


def _transform(block: Block, refuse: Refuse) -> Transform | None:
    kind = block.text("type", inherit=False).lower()
    makers: dict[str, Callable[[Block], Transform | None]] = {
        "crop": _crop, "color": _color, "colour": _color, "intensity": _intensity,
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
    block.find("channels", inherit=False)  # the network states it, too
    interpolations = ("linear", "nearest", "cubic", "lanczos")
    return Scale(
        width=block.integer("width", 0, inherit=False),
        height=block.integer("height", 0, inherit=False),
        interpolation=block.choice("interpolations", interpolations, "linear", False),  # type: ignore[arg-type]
        scale_mode=block.choice("scaleMode", ("fill", "crop", "pad"), "fill", False),  # type: ignore[arg-type]
        pad_value=block.integer("padValue", -1, inherit=False),
    )


def _color(block: Block) -> Color | None:
    radii = [block.number(f"{name}Radius", 0.0, False) for name in ("brightness", "contrast", "saturation")]
    return Color(*radii) if any(radii) else None


def _intensity(block: Block) -> Intensity | None:
    file, deviation = block.text("intensityFile", "", False), block.number("intensityStdDev", 0.0, False)
    return Intensity(file, deviation) if file and deviation else None
