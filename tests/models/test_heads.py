"""Where a network is cut, a head reads its channels, whichever axis they are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from convolve.errors import UnsupportedError
from convolve.graph.build import build
from convolve.graph.heads import as_vector, without_head
from convolve.models.heads import channel_axis, features_of, headed
from convolve.network import Network, load_graph

WIDTH, TOKENS = 24, 16


class Mixing(nn.Module):
    """A block of a transformer, but for its heads: tokens_NTD -> tokens_NTD."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.fc1, self.fc2 = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 40), nn.Linear(40, WIDTH)

    def forward(self, tokens_NTD: Tensor) -> Tensor:
        found: Tensor = tokens_NTD + self.fc2(self.fc1(self.norm(tokens_NTD)).relu())
        return found


class Transformer(nn.Module):
    """images_NCHW -> logits_NK, by tokens_NTD; the last layer reads tokens, not their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.blocks = nn.Conv2d(3, WIDTH, 4, 4), nn.Sequential(Mixing(), Mixing())
        self.head = nn.Linear(WIDTH, 5)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        tokens_NTD = self.patches(images_NCHW).flatten(2).transpose(1, 2)
        logits_NTK: Tensor = self.head(self.blocks(tokens_NTD))
        return logits_NTK.mean(1)


class ChannelsLast(nn.Module):
    """As Swin's: maps_NHWC between blocks; the same block as ConvNeXt has it, back to maps_NCHW."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block, self.last = nn.Conv2d(3, WIDTH, 4, 4), Mixing(), nn.Conv2d(WIDTH, 5, 1)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        maps_NCHW = self.block(self.stem(images_NCHW).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        logits_NK: Tensor = self.last(maps_NCHW.relu()).mean((2, 3))
        return logits_NK


@pytest.fixture
def images_NCHW() -> Tensor:
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_tokens_are_averaged_over_tokens(images_NCHW: Tensor) -> None:
    torch.manual_seed(0)
    network = Transformer().eval()
    with torch.no_grad():
        tokens_NTD = network.blocks[0](network.patches(images_NCHW).flatten(2).transpose(1, 2))
        whole = headed(network, (3, 16, 16), 3, kind="linear", cut="blocks.0", dropout=0.0)
        found_ND = features_of(whole)(images_NCHW)
    assert tokens_NTD.shape == (2, TOKENS, WIDTH) and whole.head.in_features == WIDTH
    torch.testing.assert_close(found_ND, tokens_NTD.mean(1))


def test_so_they_are_where_the_last_layer_reads_tokens(images_NCHW: Tensor) -> None:
    network = Transformer().eval()
    with torch.no_grad():
        tokens_NTD = network.blocks(network.patches(images_NCHW).flatten(2).transpose(1, 2))
        whole = headed(Transformer(), (3, 16, 16), 3, kind="linear", cut="", dropout=0.0)
        torch.testing.assert_close(features_of(network)(images_NCHW), tokens_NTD.mean(1))
    assert whole.head.in_features == WIDTH


@pytest.mark.parametrize("cut", ["block", "block.fc2", "block.fc1", "stem"])
def test_maps_are_averaged_over_space_wherever_their_channels_are(cut: str, images_NCHW: Tensor) -> None:
    network, seen = ChannelsLast().eval(), list[Tensor]()
    network.get_submodule(cut).register_forward_hook(lambda _layer, _inputs, given: seen.append(given))
    with torch.no_grad():
        network(images_NCHW)
        whole = headed(network, (3, 16, 16), 3, kind="linear", cut=cut, dropout=0.0)
        found_ND = features_of(whole)(images_NCHW)
    wanted_ND = seen[0].mean((2, 3)) if cut == "stem" else seen[0].mean((1, 2))
    torch.testing.assert_close(found_ND, wanted_ND)


@pytest.mark.parametrize("network", [Transformer, ChannelsLast])
def test_a_graph_is_cut_likewise(network: type[nn.Module], images_NCHW: Tensor, tmp_path: Path) -> None:
    """Wherever a network from a file is cut, its features are as many as at that layer of ours."""
    module = network().eval()
    Network(module, {"images": (3, 16, 16)}, {"scores": (5,)}).export(tmp_path / "net.onnx")
    graph = load_graph(tmp_path / "net.onnx").graph
    assert graph is not None
    maps = [node for node in graph.nodes if node.batched and WIDTH in node.shape and len(node.shape) > 1]
    assert len(maps) > 5
    for node in maps:
        cut = graph.with_outputs([node.name])
        given = build(cut)(images_NCHW)
        axis = 1 + list(node.shape).index(WIDTH)
        space = [other for other in range(1, given.dim()) if other != axis]
        torch.testing.assert_close(build(as_vector(cut))(images_NCHW), given.mean(space))
    assert build(without_head(graph))(images_NCHW).shape == (2, WIDTH)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "convnext_atto"])
def test_networks_of_timm_are_cut_at_their_channels(name: str) -> None:
    timm = pytest.importorskip("timm")
    size, cut, width = {
        "vit_tiny_patch16_224": (64, "blocks.0", 192),
        "swin_tiny_patch4_window7_224": (224, "layers.0", 96),
        "convnext_atto": (64, "stages.1", 80),
    }[name]
    more = {"img_size": size} if name.startswith("vit") else {}
    network = timm.create_model(name, pretrained=False, num_classes=5, **more).eval()
    with torch.device("meta"):
        whole = headed(network.to("meta"), (3, size, size), 3, kind="linear", cut=cut, dropout=0.0)
    assert whole.head.in_features == width


def test_the_rule() -> None:
    assert channel_axis((64, 7, 7), 64, is_last=False) == 0
    assert channel_axis((7, 7, 64), 64, is_last=True) == 2
    assert channel_axis((96, 7, 7), 96, is_last=True) == 0  # turned back, as ConvNeXt does
    assert channel_axis((512, 32, 32), 32, is_last=False) == 0  # several were put together, as in DenseNet
    assert channel_axis((24, 24), 24, is_last=True) == channel_axis((16, 9), 5, is_last=False) == 1
    assert channel_axis((7,), 3, is_last=True) == 0


def test_a_layer_without_an_axis_is_refused() -> None:
    class Total(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.total = nn.Conv2d(3, 4, 3), nn.Flatten(0)

        def forward(self, images_NCHW: Tensor) -> Tensor:
            found: Tensor = self.total(self.first(images_NCHW)).sum()
            return found

    with pytest.raises(UnsupportedError, match=r"model\.cut: a layer whose output is not numeric has no features"):
        headed(Total(), (3, 8, 8), 3, kind="linear", cut="total", dropout=0.0)
