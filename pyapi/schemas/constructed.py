"""Models of what is known to be right."""

from functools import cache
from typing import Any, TypeVar

from pydantic import BaseModel

Model = TypeVar("Model", bound=BaseModel)


def constructed(model: type[Model], fields: dict[str, Any]) -> Model:
    """The same as `model_construct`, which takes half of the time in which a record is shown. All fields are there."""
    made = model.__new__(model)
    object.__setattr__(made, "__dict__", chosen(model, fields))
    object.__setattr__(made, "__pydantic_fields_set__", set())
    object.__setattr__(made, "__pydantic_extra__", None)
    object.__setattr__(made, "__pydantic_private__", None)
    return made


def chosen(model: type[BaseModel], fields: dict[str, Any]) -> dict[str, Any]:
    """Those of the fields that a model has, in its order."""
    return {name: fields[name] for name in _names(model)}


@cache
def _names(model: type[BaseModel]) -> tuple[str, ...]:
    return tuple(model.model_fields)
