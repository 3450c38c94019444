"""CNTK's AlexNet on ImageNet by one worker or many, with the flags of CNTK's script of this name.

    mpiexec -n 8 python AlexNet_ImageNet_Distributed.py -datadir DIR [-q 1 -a 1281167 | -b 25600]

DIR is where readlabels.py wrote. Published: 59.9 % top-1 and 82.2 % top-5 accuracy of one center crop.
"""

import argparse
from contextlib import nullcontext, redirect_stdout
from pathlib import Path

import convolve
from convolve.errors import ConvolveError
from convolve.recipes import resolve

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
flag = parser.add_argument
flag("-datadir", help="where train_map.txt and val_map.txt are; without it, the usual places")
flag("-outputdir", default="runs/AlexNet_ImageNet_Distributed", help="an unfinished run there goes on")
flag("-logdir", dest="log", type=Path, help="a folder that exists: what would be printed goes to log.txt there")
flag("-n", "--num_epochs", dest="run.epochs", type=int, default=112)
flag("-m", "--minibatch_size", dest="run.global_batch_size", type=int, default=256, help="of all workers together")
flag("-e", "--epoch_size", dest="run.epoch_samples", type=int, default=1281167)
flag("-q", "--quantized_bits", dest="distributed.quantization_bits", type=int, default=32, help="32, 16, 8, 4, 2 or 1")
flag("-b", "--block_samples", dest="distributed.block_samples", type=int, default=0, help="block momentum; not with -q")
flag("-a", "--distributed_after", dest="distributed.after_samples", type=int, default=0, help="samples before -q or -b")
flag("-r", "--restart", action="store_true", help="start over")
flag("-device", dest="run.device", default="auto", help="auto, cpu or cuda: each worker takes a GPU of its own")

if __name__ == "__main__":
    given = vars(parser.parse_args())
    where = {"data": given["datadir"], "out": given["outputdir"], "restart": given["restart"]}
    settings = {path: value for path, value in given.items() if "." in path}
    settings |= {"distributed.method": "block_momentum"} if given["distributed.block_samples"] else {}
    try:
        with redirect_stdout((given["log"] / "log.txt").open("a", buffering=1)) if given["log"] else nullcontext():
            recipe = resolve("alexnet-python", settings)
            convolve.train(recipe, progress=lambda event, values: print(values) if event == "epoch" else None, **where)
    except (ConvolveError, OSError) as error:
        raise SystemExit(str(error)) from None
