"""The origin of images, and how they become batches: decoded on demand or cached in memory, in an order that depends
only on seed and epoch."""
