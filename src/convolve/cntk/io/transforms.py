"""What the image reader does to images."""

from __future__ import annotations

from typing import Any

__all__ = ["color", "crop", "mean", "scale"]


def crop(crop_type: str = "center", crop_size: Any = 0, side_ratio: Any = 0.0, area_ratio: Any = 0.0,
         aspect_ratio: Any = 1.0, jitter_type: str = "none") -> dict[str, Any]:  # fmt: skip
    return {"type": "Crop", "cropType": crop_type, "cropSize": crop_size, "sideRatio": side_ratio,
            "areaRatio": area_ratio, "aspectRatio": aspect_ratio, "jitterType": jitter_type}  # fmt: skip


def scale(
    width: int,
    height: int,
    channels: int,
    interpolations: str = "linear",
    scale_mode: str = "fill",
    pad_value: int = -1,
) -> dict[str, Any]:
    return {"type": "Scale", "width": width, "height": height, "channels": channels, "interpolations": interpolations,
            "scaleMode": scale_mode, "padValue": pad_value}  # fmt: skip


def mean(filename: str) -> dict[str, Any]:
    return {"type": "Mean", "meanFile": filename}


def color(
    brightness_radius: float = 0.0, contrast_radius: float = 0.0, saturation_radius: float = 0.0
) -> dict[str, Any]:
    return {
        "type": "Color",
        "brightnessRadius": brightness_radius,
        "contrastRadius": contrast_radius,
        "saturationRadius": saturation_radius,
    }
