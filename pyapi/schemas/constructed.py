"""Models of what is known to be right."""

from functools import cache
from typing import Any, TypeVar

from pydantic import BaseModel

Model = TypeVar("Model", bound=BaseModel)


def constructed(model: type[Model], fields: dict[str, Any]) -> Model:
    """The same as `model_construct`, which takes half of the time in which a record is shown. All fields are there."""
    made = model.__new__(model)
    object.__setattr__(made, "__dict__", {name: fields[name] for name in _names(model)})
    object.__setattr__(made, "__pydantic_fields_set__", set())
    object.__setattr__(made, "__pydantic_extra__", None)
    object.__setattr__(made, "__pydantic_private__", None)
    return made


@cache
def _names(model: type[BaseModel]) -> tuple[str, ...]:
    return tuple(model.model_fields)
