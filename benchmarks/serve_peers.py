"""What a team would write around an exported digits model, with bare Starlette. benchmarks/serve_beside.py runs it.

python benchmarks/serve_peers.py model.onnx PORT
"""

from __future__ import annotations

import json
import sys
from typing import Any

import cv2
import numpy as np
import onnxruntime


class Digits:
    """An encoded image -> its five likeliest classes."""

    def __init__(self, path: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        about = json.loads(self.session.get_modelmeta().custom_metadata_map["convolve"])
        self.names, self.preprocess = about["class_names"], about["preprocess"]

    def pixels(self, encoded: bytes) -> Any:
        digit_HW: Any = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_GRAYSCALE)
        return (digit_HW.astype(np.float32) - self.preprocess["mean"])[None] * self.preprocess["scale"]

    def answers(self, images_NCHW: Any) -> list[dict[str, Any]]:
        logits_NK = self.session.run(None, {self.session.get_inputs()[0].name: images_NCHW.astype(np.float32)})[0]
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

    digits = Digits(path)

    async def predict(request: Request) -> JSONResponse:
        encoded = await request.body()
        return JSONResponse((await run_in_threadpool(lambda: digits.answers(digits.pixels(encoded)[None])))[0])

    app = Starlette(routes=[Route("/predict", predict, methods=["POST"])])
    uvicorn.run(app, port=port, http="h11", loop="asyncio", log_level="warning", access_log=False)


if __name__ == "__main__":
    starlette(sys.argv[1], int(sys.argv[2]))
