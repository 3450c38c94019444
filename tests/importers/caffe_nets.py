"""The networks that Caffe is known for, written from their papers, with made-up weights; `thin` makes them narrower."""

from __future__ import annotations

from collections.abc import Callable

from caffe_files import Writer


def alexnet(thin: int = 1) -> Writer:
    """BVLC's: normalization before pooling."""
    return _alexnet(thin, norm_first=True)


def caffenet(thin: int = 1) -> Writer:
    """Pooling before normalization, in the syntax of its time."""
    return _alexnet(thin, norm_first=False)


def _alexnet(thin: int, norm_first: bool) -> Writer:
    net = Writer((10, 3, 227, 227), thin=thin, v1=not norm_first)

    def shrink(number: int, blob: str) -> str:
        window = "pool: MAX kernel_size: 3 stride: 2"
        if norm_first:
            return net.pool(f"pool{number}", net.lrn(f"norm{number}", blob), window)
        return net.lrn(f"norm{number}", net.pool(f"pool{number}", blob, window))

    x = shrink(1, net.conv("conv1", "data", 96, 11, stride=4))
    x = shrink(2, net.conv("conv2", x, 256, 5, pad=2, group=2))
    x = net.conv("conv3", x, 384, 3, pad=1)
    x = net.conv("conv4", x, 384, 3, pad=1, group=2)
    x = net.conv("conv5", x, 256, 3, pad=1, group=2)
    x = net.pool("pool5", x, "pool: MAX kernel_size: 3 stride: 2")
    x = net.dropout(net.relu(net.dense("fc6", x, 4096, 36)))
    x = net.dropout(net.relu(net.dense("fc7", x, 4096)))
    net.softmax(net.dense("fc8", x, 1000, last=True))
    return net


def vgg16(thin: int = 1) -> Writer:
    net, x = Writer((10, 3, 224, 224), thin=thin, v1=True), "data"
    for block, (maps, depth) in enumerate([(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)], 1):
        for layer in range(1, depth + 1):
            x = net.conv(f"conv{block}_{layer}", x, maps, 3, pad=1)
        x = net.pool(f"pool{block}", x, "pool: MAX kernel_size: 2 stride: 2")
    x = net.dropout(net.relu(net.dense("fc6", x, 4096, 49)))
    x = net.dropout(net.relu(net.dense("fc7", x, 4096)))
    net.softmax(net.dense("fc8", x, 1000, last=True))
    return net


def googlenet(thin: int = 1) -> Writer:
    net = Writer((10, 3, 224, 224), thin=thin)
    pool = "pool: MAX kernel_size: 3 stride: 2"

    def inception(name: str, x: str, *maps: int) -> str:
        one, three_in, three, five_in, five, pooled = maps
        branches = [
            net.conv(f"{name}/1x1", x, one, 1),
            net.conv(f"{name}/3x3", net.conv(f"{name}/3x3_reduce", x, three_in, 1), three, 3, pad=1),
            net.conv(f"{name}/5x5", net.conv(f"{name}/5x5_reduce", x, five_in, 1), five, 5, pad=2),
        ]
        x = net.pool(f"{name}/pool", x, "pool: MAX kernel_size: 3 stride: 1 pad: 1")
        return net.concat(f"{name}/output", [*branches, net.conv(f"{name}/pool_proj", x, pooled, 1)])

    x = net.pool("pool1/3x3_s2", net.conv("conv1/7x7_s2", "data", 64, 7, stride=2, pad=3), pool)
    x = net.conv("conv2/3x3_reduce", net.lrn("pool1/norm1", x), 64, 1)
    x = net.lrn("conv2/norm2", net.conv("conv2/3x3", x, 192, 3, pad=1))
    x = net.pool("pool2/3x3_s2", x, pool)
    x = inception("inception_3a", x, 64, 96, 128, 16, 32, 32)
    x = net.pool("pool3/3x3_s2", inception("inception_3b", x, 128, 128, 192, 32, 96, 64), pool)
    x = inception("inception_4a", x, 192, 96, 208, 16, 48, 64)
    x = inception("inception_4b", x, 160, 112, 224, 24, 64, 64)
    x = inception("inception_4c", x, 128, 128, 256, 24, 64, 64)
    x = inception("inception_4d", x, 112, 144, 288, 32, 64, 64)
    x = net.pool("pool4/3x3_s2", inception("inception_4e", x, 256, 160, 320, 32, 128, 128), pool)
    x = inception("inception_5a", x, 256, 160, 320, 32, 128, 128)
    x = inception("inception_5b", x, 384, 192, 384, 48, 128, 128)
    x = net.dropout(net.pool("pool5/7x7_s1", x, "pool: AVE kernel_size: 7 stride: 1"))
    net.softmax(net.dense("loss3/classifier", x, 1000, last=True))
    return net


def squeezenet(thin: int = 1) -> Writer:
    """Version 1.0."""
    net = Writer((10, 3, 227, 227), thin=thin)
    pool = "pool: MAX kernel_size: 3 stride: 2"

    def fire(number: int, x: str, squeezed: int, expanded: int) -> str:
        name = f"fire{number}"
        x = net.conv(f"{name}/squeeze1x1", x, squeezed, 1)
        sides = [net.conv(f"{name}/expand1x1", x, expanded, 1), net.conv(f"{name}/expand3x3", x, expanded, 3, pad=1)]
        return net.concat(f"{name}/concat", sides)

    x = net.pool("pool1", net.conv("conv1", "data", 96, 7, stride=2), pool)
    x = fire(4, fire(3, fire(2, x, 16, 64), 16, 64), 32, 128)
    x = fire(6, fire(5, net.pool("pool4", x, pool), 32, 128), 48, 192)
    x = fire(8, fire(7, x, 48, 192), 64, 256)
    x = net.dropout(fire(9, net.pool("pool8", x, pool), 64, 256))
    x = net.conv("conv10", x, 1000, 1, last=True)
    net.softmax(net.pool("pool10", x, "pool: AVE global_pooling: true"))
    return net


def resnet50(thin: int = 1) -> Writer:
    net = Writer((1, 3, 224, 224), thin=thin)

    def conv(name: str, x: str, maps: int, kernel: int, stride: int = 1, relu: bool = True, gain: float = 1.0) -> str:
        x = net.conv(f"res{name}", x, maps, kernel, stride, kernel // 2, bias=False, relu=False)
        x = net.normalized(name, x, gain)
        return net.relu(x) if relu else x

    def block(name: str, x: str, maps: int, stride: int, first: bool) -> str:
        shortcut = conv(f"{name}_branch1", x, 4 * maps, 1, stride, relu=False) if first else x
        x = conv(f"{name}_branch2b", conv(f"{name}_branch2a", x, maps, 1, stride), maps, 3)
        x = conv(f"{name}_branch2c", x, 4 * maps, 1, relu=False, gain=0.3)
        return net.relu(net.layer("Eltwise", f"res{name}", [shortcut, x], f"res{name}"))

    x = net.normalized("conv1", net.conv("conv1", "data", 64, 7, 2, 3, bias=False, relu=False))
    x = net.pool("pool1", net.relu(x), "kernel_size: 3 stride: 2 pool: MAX")
    for stage, (maps, depth) in enumerate([(64, 3), (128, 4), (256, 6), (512, 3)], 2):
        for number in range(depth):
            stride = 2 if stage > 2 and number == 0 else 1
            x = block(f"{stage}{'abcdef'[number]}", x, maps, stride, first=number == 0)
    x = net.pool("pool5", x, "kernel_size: 7 stride: 1 pool: AVE")
    net.softmax(net.dense("fc1000", x, 1000, last=True))
    return net


# Each with the number of parameters that was published for it.
NETS: dict[str, tuple[Callable[[int], Writer], int]] = {
    "alexnet": (alexnet, 60_965_224),
    "caffenet": (caffenet, 60_965_224),
    "googlenet": (googlenet, 6_998_552),
    "vgg16": (vgg16, 138_357_544),
    "squeezenet": (squeezenet, 1_248_424),
    "resnet50": (resnet50, 25_557_032),
}
