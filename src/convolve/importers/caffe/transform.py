"""What a prototxt says about preprocessing: the transform of the data layer with which a train_val file tests."""

from typing import Any

from convolve.errors import legible
from convolve.graph.shapes import Shape
from convolve.importers.caffe.net import Net
from convolve.importers.caffe.schema import Message

# Where the fields of a transform may be; Caffe's oldest files have them among those of the data.
_PLACES = ("transform_param", "data_param", "image_data_param")


def stated_preprocess(net: Net) -> tuple[dict[str, Any], list[str]]:
    """(what the transform of the net's data layer says, as fields of Preprocess; notes on what the user has to give).

    The network sees (pixel - mean) * scale. The prototxt only names a mean image. Deploy files say nothing.
    """
    for feed in net.feeds.values():
        if any(place in feed.settings for place in _PLACES):
            mean_file, scale = _stated(feed.settings, "mean_file", ""), _stated(feed.settings, "scale", 1.0)
            said, notes = _stated_resize(feed.settings)
            if mean_file:
                note = f"the prototxt subtracts the mean image {legible(mean_file)}; give it with --mean"
                return said | {"scale": scale}, [*notes, note]
            means = tuple(feed.settings.message("transform_param").all("mean_value"))
            mean = means if len(means) > 1 else sum(means, start=0.0)
            return said | {"mean": mean, "scale": scale, "known_from": "the prototxt"}, notes
    return {}, []


def _stated_resize(data_layer: Message) -> tuple[dict[str, Any], list[str]]:
    """A data layer scales whole images to new_width x new_height, then crops a square of crop_size at the center."""
    height, width, side = (_stated(data_layer, name, 0) for name in ("new_height", "new_width", "crop_size"))
    if not (height and width):
        return {}, []  # the database's images have their own size, which the prototxt does not state
    if side and (height != width or side > width):
        cut = f"the prototxt crops {side}x{side} from images scaled to {width}x{height}"
        note = f"{cut}, which convolve cannot do; choose with --resize and --crop-ratio"
        return {}, [note]
    return {"resize": "squash", "crop_ratio": side / width if side else 1.0}, []


def stated_size(data_layer: Message) -> Shape | None:
    """The (H, W) to which a data layer crops or scales its images."""
    side = _stated(data_layer, "crop_size", 0)
    height, width = (_stated(data_layer, name, 0) for name in ("new_height", "new_width"))
    return (side, side) if side else (height, width) if height and width else None


def _stated(data_layer: Message, name: str, default: Any) -> Any:
    for place in _PLACES:
        if place in data_layer and name in data_layer.message(place):
            return data_layer.message(place).get(name, default)
    return default
