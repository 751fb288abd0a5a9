"""Align, decode and measure language and vision-language models that must stop making things up."""

__version__ = "0.1.0"
