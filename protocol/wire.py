"""The base of every model on the wire: camelCase names, strict types, nothing unknown."""

from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic.alias_generators import to_camel


class Inbound(BaseModel):
    """What a client sends: exact types, no unknown field, immutable once read."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True, strict=True)

    @classmethod
    def read(cls, payload: Any) -> Self:
        """The model of a payload, by the validator alone. Raises: ValidationError."""
        model: Self = cls.__pydantic_validator__.validate_python(payload)
        return model


class Outbound(BaseModel):
    """What the server sends: built from Python names, written with wire names."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)

    @classmethod
    def trusted(cls, fields: dict[str, Any]) -> Self:
        """The model of all of its fields by their Python names, which are not looked at: as quick as it gets."""
        model = cls.__new__(cls)
        object.__setattr__(model, "__dict__", fields)
        object.__setattr__(model, "__pydantic_fields_set__", set(fields))
        object.__setattr__(model, "__pydantic_extra__", None)
        object.__setattr__(model, "__pydantic_private__", None)
        return model

    def wire_json(self) -> bytes:
        """The model as UTF-8 JSON with wire names."""
        return self.__pydantic_serializer__.to_json(self, by_alias=True)


def _not_null(value: object) -> object:
    if value is None:
        raise ValueError("must not be null; leave the field out instead")
    return value


T = TypeVar("T")
Maybe = Annotated[T | None, BeforeValidator(_not_null)]
"""An optional field of a command: it may be absent (None), but not null."""
