"""What a file of `convert --any-size` says of photographs, beside `convolve predict`; it is asked without convolve.

    python benchmarks/any_size.py RUN PHOTOGRAPHS [--images 500]

RUN is a model of the recipe `photos`, PHOTOGRAPHS a folder. Results go to benchmarks/results/PROCESSOR/any_size.json.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

from convolve.atomic import write_json
from convolve.environment import hardware, versions
from convolve.loading import load
from convolve.prediction import Prediction
from rounds import results_of

RESULTS = results_of("any_size")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--images", type=int, default=500)
    asked = parser.parse_args()
    found = sorted(path for path in asked.photographs.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    paths = sorted(random.Random(0).sample(found, min(asked.images, len(found))))
    model = load(asked.run)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "any.onnx"
        model.export(file, any_size=True)
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    rows = [beside(one, session, model.class_names) for one in model.predict(paths, len(model.class_names))]
    figures = {
        "images": len(rows),
        "same_first_class": sum(row["same"] for row in rows),
        "same_none_of_these": sum(row["same_none"] for row in rows),
        "largest_difference_of_a_probability": max(row["difference"] for row in rows),
    }
    print(figures)
    used = versions() | {"onnxruntime": onnxruntime.__version__}
    write_json(RESULTS, {"hardware": hardware(), "versions": used, **figures})


def beside(said: Prediction, session: onnxruntime.InferenceSession, names: tuple[str, ...]) -> dict[str, float]:
    """How far the file's answer to one photograph is from what `predict` said."""
    pixels_HWC = np.asarray(ImageOps.exif_transpose(Image.open(said.path)).convert("RGB"))
    probabilities_K, *more = session.run(None, {"image": pixels_HWC})
    differences = [abs(float(probabilities_K[names.index(name)]) - p) for name, p in said.classes]
    none = bool(more[0]) if more else None
    return {
        "same": names[int(probabilities_K.argmax())] == said.classes[0][0],
        "same_none": none == said.none_of_these,
        "difference": max(differences),
    }


if __name__ == "__main__":
    main()
