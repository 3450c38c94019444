"""What can be done to images: `draw_*` chooses with an explicit generator, `apply_*` is a pure function of that."""
