"""Answers whose JSON is there already."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import BaseModel

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Rendered(Generic[Model]):
    """A model and its JSON; the model need not have what only the JSON is for."""

    model: Model
    body: bytes
