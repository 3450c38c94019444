"""Optional parts of a training: small objects on the trainer's two hooks, absent if they are not used."""
