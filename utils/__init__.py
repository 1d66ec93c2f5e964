"""Helper package of the course: GANs as energy-based models."""
