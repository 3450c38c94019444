"""The neutral graph: every importer lowers to it, `build` makes a torch module of it, model folders store it."""
