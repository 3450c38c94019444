"""ConvNet_CIFAR10_DataAug by many workers, with the flags of CNTK's script of this name.

    mpiexec -n 2 python ConvNet_CIFAR10_DataAug_Distributed.py [-datadir DIR] [-q 1 -a 50000 | -b 3200]

The original tests on random crops of the test images, padded; this one tests on the images as they are.
"""

import argparse
from contextlib import nullcontext, redirect_stdout
from pathlib import Path

from ConvNet_CIFAR10 import print_progress

from convolve import ConvolveError, train, write_report
from convolve.recipes import resolve

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
flag = parser.add_argument
flag("-datadir", help="CIFAR-10: a folder or an archive; without it, the usual places or a download")
flag("-outputdir", default="runs/ConvNet_CIFAR10_DataAug_Distributed", help="an unfinished run there goes on")
flag("-logdir", dest="log", type=Path, help="a folder that exists: what would be printed goes to log.txt there")
flag("-n", "--num_epochs", dest="run.epochs", type=int, default=160)
flag("-m", "--minibatch_size", dest="run.global_batch_size", type=int, default=64, help="of all workers together")
flag("-e", "--epoch_size", dest="run.epoch_samples", type=int, default=50000)
flag("-q", "--quantized_bits", dest="distributed.quantization_bits", type=int, default=32, help="32, 16, 8, 4, 2 or 1")
flag("-b", "--block_samples", dest="distributed.block_samples", type=int, default=0, help="block momentum; not with -q")
flag("-a", "--distributed_after", dest="distributed.after_samples", type=int, default=0, help="samples before -q or -b")
flag("-r", "--restart", action="store_true", help="start over")
flag("-device", dest="run.device", default="auto", help="auto, cpu or cuda: each worker takes a GPU of its own")
given = vars(parser.parse_args())
method = "block_momentum" if given["distributed.block_samples"] else "gradients"
settings = {path: value for path, value in given.items() if "." in path} | {"distributed.method": method}
where = {"data": given["datadir"], "out": given["outputdir"], "restart": given["restart"]}
try:
    with redirect_stdout((given["log"] / "log.txt").open("a", buffering=1)) if given["log"] else nullcontext():
        run = train(resolve("cifar10-aug", settings), progress=print_progress, report=write_report, **where)
        if run.rank == 0:
            print(f"test error {run.result['test_error']:.2%}; see {run.folder.path / 'report.html'}")
except (ConvolveError, OSError) as error:
    raise SystemExit(str(error)) from None
