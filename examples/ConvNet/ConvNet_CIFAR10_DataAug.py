"""The network of ConvNet_CIFAR10 with augmented images: about 14 % error.

    python ConvNet_CIFAR10_DataAug.py [--data DIR] [--variant python|brainscript] [--epochs 80]

Training images are shifted by up to 4 pixels and half of them mirrored, anew in each epoch.
"""

from ConvNet_CIFAR10 import main

if __name__ == "__main__":
    main("cifar10-aug", 80, "runs/ConvNet_CIFAR10_DataAug", __doc__)
