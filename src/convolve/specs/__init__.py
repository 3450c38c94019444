"""The parts of a recipe: frozen values, checked where they are made."""
