"""Where images come from, and how they become batches: decoded on demand or kept in memory, in an order that depends on
seed and epoch alone."""
