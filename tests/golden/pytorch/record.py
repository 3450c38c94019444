"""Writes networks.json: what torchvision and timm answer with weights that anyone can make again.

Needs both packages. Weights are `weights_of` in tests/importers/checkpoints.py.
"""

import json
import sys
from pathlib import Path

import timm
import torch
import torchvision

sys.path.insert(0, str(Path(__file__).parents[2] / "importers"))
from checkpoints import images_of, weights_of

NETWORKS = {
    "resnet18": torchvision.models.resnet18, "resnet34": torchvision.models.resnet34,
    "resnet50": torchvision.models.resnet50, "squeezenet1_0": torchvision.models.squeezenet1_0,
    "squeezenet1_1": torchvision.models.squeezenet1_1,
    "tf_efficientnet_lite0": lambda **o: timm.create_model("tf_efficientnet_lite0", **o),
    "efficientnet_lite0": lambda **o: timm.create_model("efficientnet_lite0", **o),
}  # fmt: skip

answers = {"torchvision": torchvision.__version__, "timm": timm.__version__, "torch": torch.__version__}
for name, make in NETWORKS.items():
    network = make(num_classes=7).eval()
    network.load_state_dict(weights_of(network.state_dict()))
    with torch.no_grad():
        answers[name] = {"keys": len(network.state_dict()), "logits": network(images_of()).tolist()}
Path(__file__).with_name("networks.json").write_text(json.dumps(answers, indent=1) + "\n")
