"""Images as data URIs. H row, W column, C channel (1: gray, 3: RGB); O filters, I input channels."""

import base64
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

LONGEST_SIDE = 112  # pixels; the size of a picture on the page
JPEG_QUALITY = 85  # 216 photographs then stay near 1 MB; as PNG they would take five times that
MOST_FILTERS = 256
SMALL_SIDE = 48  # below this, pixels are shown as squares, not blurred


@dataclass(frozen=True)
class Picture:
    """What an `<img>` element needs; `uri` contains the pixels."""

    uri: str
    width: int
    height: int
    kind: str  # CSS class: "pixels" or "photo"


def picture(image_HWC: Pixels, longest_side: int = LONGEST_SIDE) -> Picture:
    """Large images are scaled down to `longest_side`."""
    image_HWC = _bounded(image_HWC, longest_side)
    height, width = image_HWC.shape[:2]
    kind = "pixels" if max(height, width) < SMALL_SIDE else "photo"
    return Picture(_uri(image_HWC, exact=kind == "pixels"), width, height, kind)


def filter_pictures(filters_OIHW: npt.NDArray[np.float32]) -> list[Picture]:
    return [picture(image_HWC) for image_HWC in _filter_images(filters_OIHW[:MOST_FILTERS])]


def _filter_images(filters_OIHW: npt.NDArray[np.float32]) -> Pixels:
    """Filters (O, I, H, W) -> images (O, H, W, I): zero is mid-gray, the largest absolute weight black or white."""
    filters_OHWI: npt.NDArray[np.float32] = np.nan_to_num(filters_OIHW.transpose(0, 2, 3, 1))
    largest = float(np.abs(filters_OHWI).max()) or 1.0
    images_OHWI: Pixels = np.rint(127.5 + 127.5 * (filters_OHWI / largest)).astype(np.uint8)
    return images_OHWI


def _bounded(image_HWC: Pixels, longest_side: int) -> Pixels:
    height, width, channels = image_HWC.shape
    shrink = longest_side / max(height, width)
    if shrink >= 1:
        return image_HWC
    size_WH = max(1, round(width * shrink)), max(1, round(height * shrink))
    smaller: Pixels = cv2.resize(image_HWC, size_WH, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return smaller.reshape(size_WH[1], size_WH[0], channels)  # OpenCV drops a single channel's axis


def _uri(image_HWC: Pixels, exact: bool) -> str:
    kind, options = ("png", []) if exact else ("jpeg", [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    _, encoded = cv2.imencode(f".{kind}", np.ascontiguousarray(image_HWC[..., ::-1]), options)  # RGB -> OpenCV's BGR
    return f"data:image/{kind};base64," + base64.b64encode(encoded.tobytes()).decode("ascii")
