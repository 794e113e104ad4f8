"""Models that look at images: an AutoML model behind HTTP, and a simulated one that really looks."""
