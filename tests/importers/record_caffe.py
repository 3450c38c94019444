"""Records what OpenCV's Caffe reader computes for the networks of caffe_cases.py and caffe_nets.py.

    pip install "opencv-python-headless<5" numpy
    python tests/importers/record_caffe.py        # writes tests/golden/caffe/opencv.npz; two minutes, 3 GB of memory

OpenCV 5 has no such reader any more. The weights and images are made up and stand nowhere: `caffe_files.noise` gives
the same ones again.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from caffe_cases import CASES
from caffe_files import UNUSED, Writer, caffemodel, noise
from caffe_nets import NETS

FILE = Path(__file__).parent.parent / "golden" / "caffe" / "opencv.npz"
THIN = 8


def answer(text: str, model: bytes, images_NCHW: np.ndarray, layer: str = "") -> np.ndarray:
    """The output of `layer`; without one, of the last."""
    cv2_4: Any = cv2
    net = cv2_4.dnn.readNetFromCaffe(*(np.frombuffer(data, np.uint8) for data in (text.encode(), model)))
    net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
    net.enableFusion(False)
    net.enableWinograd(False)
    net.setInput(images_NCHW)
    return np.array(net.forward(layer) if layer else net.forward())


def of_net(writer: Writer) -> np.ndarray:
    """The class scores of one made-up image."""
    images_NCHW = noise("image", (1, *writer.input_shape[1:]), 128.0)
    return answer(writer.text, caffemodel(writer.blobs), images_NCHW, writer.scores)


def main() -> int:
    found: dict[str, np.ndarray] = {}
    for name, case in CASES.items():
        model = caffemodel(case.blobs or UNUSED)
        try:
            found[f"case/{name}"] = answer(case.text, model, case.images(name))
        except cv2.error as error:
            print(f"{name}: {' '.join(str(error).split())[:160]}")
    for name, (make, _) in NETS.items():
        for thin in (THIN, 1):
            found[f"thin/{name}" if thin == THIN else f"full/{name}"] = of_net(make(thin))
            print(name, thin, cv2.__version__)
    FILE.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(FILE, **found)  # type: ignore[arg-type]
    return 0


if __name__ == "__main__":
    sys.exit(main())
