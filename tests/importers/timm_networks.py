"""Networks of timm with random weights, as ONNX files: run by a Python that has timm and a torch that it fits.

python timm_networks.py FOLDER [NAME ...]
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

# One of each kind, with images as small as it takes; those with a fixed size in their name cannot be made smaller.
SIZES = {
    "resnet18": 64, "resnet26d": 64, "resnext26ts": 64, "seresnet50": 64, "resnetv2_50": 64, "wide_resnet50_2": 64,
    "densenet121": 64, "inception_v3": 96, "inception_v4": 96, "xception41": 96, "dla34": 64, "dpn48b": 64,
    "mobilenetv2_100": 64, "mobilenetv3_large_100": 64, "mobilenetv4_conv_small": 64, "mnasnet_100": 64,
    "efficientnet_b0": 64, "tf_efficientnet_lite0": 64, "ghostnet_100": 64,
    "hardcorenas_a": 64, "regnetx_002": 64, "regnety_002": 64, "repvgg_a0": 64, "rexnet_100": 64, "fbnetc_100": 64,
    "lcnet_050": 64, "tinynet_e": 64, "convnext_atto": 64, "convnextv2_atto": 64, "vit_tiny_patch16_224": 64,
    "deit_tiny_patch16_224": 64, "swin_tiny_patch4_window7_224": 224, "mixer_s32_224": 224, "resmlp_12_224": 224,
    "gmlp_ti16_224": 224, "poolformer_s12": 64, "pvt_v2_b0": 64, "levit_128s": 224, "mobilevit_xxs": 64,
    "edgenext_xx_small": 64, "fastvit_t8": 64, "mobileone_s0": 64, "nfnet_f0": 64, "cspresnet50": 64,
    "hrnet_w18_small": 64, "res2net50_26w_4s": 64, "skresnet18": 64, "ese_vovnet19b_dw": 64,
    "coatnet_nano_rw_224": 224, "maxvit_rmlp_pico_rw_256": 256, "efficientformerv2_s0": 224, "crossvit_tiny_240": 240,
    "cait_xxs24_224": 224, "xcit_nano_12_p16_224": 224, "twins_svt_small": 224, "davit_tiny": 64,
    "tiny_vit_5m_224": 224, "repvit_m0_9": 64, "starnet_s1": 64, "mambaout_femto": 64, "beit_base_patch16_224": 224,
    "eva02_tiny_patch14_224": 224,
}  # fmt: skip


def write(name: str, folder: Path) -> None:
    import timm
    import torch

    size = SIZES[name]
    torch.manual_seed(0)
    more = {"img_size": size} if name.startswith(("vit_", "deit_")) else {}
    module = timm.create_model(name, pretrained=False, num_classes=5, exportable=True, **more).eval()
    for parameter in module.parameters():  # those that begin at 0 would hide their branch
        parameter.data += torch.randn_like(parameter) * 0.005
    images = torch.rand(2, 3, size, size)
    # The old exporter, every second time with the batch of the example: most files in the world are of these two kinds.
    fixed = [*SIZES].index(name) % 2
    torch.onnx.export(
        module, (images[:1] if fixed else images,), str(folder / f"{name}.onnx"), opset_version=17, dynamo=False,
        input_names=["input"], output_names=["scores"], dynamic_axes=None if fixed else {"input": {0: "N"}},
    )  # fmt: skip


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for wanted in sys.argv[2:] or SIZES:
        try:
            write(wanted, Path(sys.argv[1]))
        except Exception as error:  # another version of timm may lack one
            print(f"{wanted}: {type(error).__name__}: {str(error).splitlines()[:1]}", file=sys.stderr)
