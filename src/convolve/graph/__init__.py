"""The neutral graph: every importer converts to it, `build` makes a torch module from it, model folders store it."""
