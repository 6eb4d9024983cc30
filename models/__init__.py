"""The networks; `get_model` is the one place here that reads the configuration."""

from models.builder import get_model

__all__ = ["get_model"]
