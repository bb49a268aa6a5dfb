"""RETHINED: real-time, high-resolution image inpainting on the machine you have."""

__version__ = "0.1.0"
