"""ConvNet_CIFAR10_DataAug with local response normalization in the network: about 13.8 % error.

    python ConvNetLRN_CIFAR10_DataAug.py [--data DIR] [--variant python|brainscript] [--epochs 80]

Normalization follows the second convolution of each pair; it has no parameters of its own.
"""

from ConvNet_CIFAR10 import main

if __name__ == "__main__":
    main("cifar10-aug-lrn", 80, "runs/ConvNetLRN_CIFAR10_DataAug", __doc__)
