"""Base classes and types of YAML sections, which forbid unknown keys and bound numbers.

The bounds are far beyond what makes sense, and small enough that no product of a few of them overflows: a network of
such sizes can still be described (on the meta device), and is refused before it takes memory.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Annotated, Any, Literal, Union

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter
from pydantic_core import CoreSchema, core_schema

from yolofpn.reading import MAX_CLASSES, MAX_INPUT_SIDE

UnitFloat = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(gt=0, le=1)]
PositiveFloat = Annotated[float, Field(gt=0, le=1e12)]
NonNegativeFloat = Annotated[float, Field(ge=0, le=1e12)]
PositiveInt = Annotated[int, Field(gt=0, le=10**9)]
NonNegativeInt = Annotated[int, Field(ge=0, le=10**9)]
Channels = Annotated[int, Field(gt=0, le=2**16)]
InputSide = Annotated[int, Field(gt=0, le=MAX_INPUT_SIDE)]  # pixels
PooledSide = Annotated[int, Field(gt=0, le=64)]  # cells
ClassCount = Annotated[int, Field(ge=0, le=MAX_CLASSES)]

VocCorners = Annotated[
    Literal["auto", "devkit", "cvat", "labelimg", "labelstudio", "roboflow"],
    BeforeValidator(lambda tool: re.sub("[ _-]", "", tool.lower()) if isinstance(tool, str) else tool),
]
"""Who wrote a data set's VOC XML, which decides what its corners mean; 'auto' looks."""

Depth = Annotated[
    Literal["auto", "12", "16", "minmax"],
    BeforeValidator(lambda depth: str(depth) if type(depth) is int else depth),
]
"""Which value is white in images of more than 8 bits: 4095, 65535, or the largest of each; 'auto' looks."""


class StrictModel(BaseModel):
    """A section: unknown keys are errors, no number is infinite or NaN, values never change after reading."""

    # Validators are built for the sections that are read: few of all, where one image is detected.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)


class OneOf:
    """Annotates a section that is one of several, told apart by their key ``type``.

    Args:
        choices: gives their classes. It is called when a section is read, so that the tuple that it looks up may grow.
    """

    def __init__(self, choices: Callable[[], tuple[type[StrictModel], ...]]) -> None:
        self.choices = choices

    def __get_pydantic_core_schema__(self, source: object, handler: object) -> CoreSchema:
        """What pydantic asks of an annotation."""
        return core_schema.no_info_plain_validator_function(lambda tree: _adapter(self.choices()).validate_python(tree))


@cache
def _adapter(choices: tuple[type[StrictModel], ...]) -> TypeAdapter[Any]:
    union: Any = Annotated[Union[choices], Field(discriminator="type")]  # noqa: UP007
    return TypeAdapter(union)
