"""The model of serve_peers.py in MLServer, asked in the Open Inference Protocol. benchmarks/serve_beside.py runs it.

python benchmarks/serve_mlserver.py model.onnx PORT
"""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import sys
from typing import Any

import mlserver  # type: ignore[import-not-found]
import numpy as np
from mlserver.codecs import StringCodec  # type: ignore[import-not-found]

from serve_peers import Classifier


class Runtime(mlserver.MLModel):  # type: ignore[misc]
    async def load(self) -> bool:
        self.classifier = Classifier(self.settings.parameters.uri)
        return True

    async def predict(self, payload: Any) -> Any:
        files = StringCodec.decode_input(payload.inputs[0])
        images_NCHW = np.stack([self.classifier.pixels(base64.b64decode(file)) for file in files])
        said = [json.dumps(one) for one in self.classifier.answers(images_NCHW)]
        output = StringCodec.encode_output("classes", said)
        return mlserver.types.InferenceResponse(model_name=self.name, outputs=[output])


async def main() -> None:
    free = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports = [each.getsockname()[1] for each in free]
    for each in free:
        each.close()
    settings = mlserver.Settings(
        host="127.0.0.1", http_port=int(sys.argv[2]), grpc_port=ports[0], metrics_port=ports[1], parallel_workers=0
    )
    model = mlserver.ModelSettings(
        name="model", implementation=Runtime, parameters={"uri": sys.argv[1]}, max_batch_size=64, max_batch_time=0.001
    )
    server = mlserver.MLServer(settings)
    await server.start([model])


if __name__ == "__main__":
    asyncio.run(main())
