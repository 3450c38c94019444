"""What most trainings do without: small objects on the trainer's two hooks, absent where they are not used."""
