"""What a team would write around an exported model, with bare Starlette. benchmarks/serve_beside.py runs it.

python benchmarks/serve_peers.py model.onnx PORT
"""

from __future__ import annotations

import json
import sys
from typing import Any

import cv2
import numpy as np
import onnxruntime


class Classifier:
    """An encoded image -> its five likeliest classes. `threads`: of one run."""

    def __init__(self, path: str, threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        about = json.loads(self.session.get_modelmeta().custom_metadata_map["convolve"])
        self.names, self.preprocess = about["class_names"], about["preprocess"]

    def pixels(self, encoded: bytes) -> Any:
        """The planes as the network takes them: gray, or RGB; scaled to cover its size and cut in the middle."""
        about = self.preprocess
        kind = cv2.IMREAD_GRAYSCALE if about["channels"] == 1 else cv2.IMREAD_COLOR_RGB
        image: Any = cv2.imdecode(np.frombuffer(encoded, np.uint8), kind)
        height, width = about["height"], about["width"]
        if image.shape[:2] != (height, width):
            factor = max(height / image.shape[0], width / image.shape[1])
            image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
            top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
            image = image[top : top + height, left : left + width]
        planes_CHW = image.reshape(height, width, -1).transpose(2, 0, 1).astype(np.float32)
        mean, scale = (np.reshape(np.float32(about[name]), (-1, 1, 1)) for name in ("mean", "scale"))
        return (planes_CHW - mean) * scale

    def answers(self, images_NCHW: Any) -> list[dict[str, Any]]:
        logits_NK = self.session.run(None, {self.session.get_inputs()[0].name: images_NCHW})[0]
        odds_NK = np.exp(logits_NK - logits_NK.max(1, keepdims=True))
        probabilities_NK = odds_NK / odds_NK.sum(1, keepdims=True)
        return [
            {"classes": [{"class": self.names[k], "probability": float(one_K[k])} for k in np.argsort(-one_K)[:5]]}
            for one_K in probabilities_NK
        ]


def starlette(path: str, port: int) -> None:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    classifier = Classifier(path)

    async def predict(request: Request) -> JSONResponse:
        encoded = await request.body()
        said = await run_in_threadpool(lambda: classifier.answers(classifier.pixels(encoded)[None]))
        return JSONResponse(said[0])

    app = Starlette(routes=[Route("/predict", predict, methods=["POST"])])
    uvicorn.run(app, port=port, loop="asyncio", log_level="warning", access_log=False)


if __name__ == "__main__":
    starlette(sys.argv[1], int(sys.argv[2]))
