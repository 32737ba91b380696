"""What a preset says, read and checked: a preset is data, not code."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class EncoderSpec(BaseModel):
    """An encoder named by its kind, with the options of that kind as further keys."""

    model_config = ConfigDict(extra="allow", frozen=True)

    kind: str

    @property
    def options(self) -> dict[str, Any]:
        """Everything but the kind."""
        return dict(self.__pydantic_extra__ or {})


class SpaceSpec(BaseModel):
    """A named block of the fused vector, and the encoders that reach it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    item: str
    """The modality that fills an item's block."""
    encoders: dict[str, EncoderSpec]
    """Encoder per modality that can reach the space; queries may use any of them."""
    weight: float = Field(default=1.0, gt=0, le=1000)
    """Default weight of the space in a query; must be positive (a query may bring any)."""
    reduce: int | None = Field(default=None, ge=2, le=4096)
    """Dimensions kept by PCA; None keeps all, or 256 of more than 512 in a centred space."""
    pool: Literal["mean", "max-similarity"] = "mean"
    """How several inputs of one item count: by their mean direction, or each candidate by the input
    that is most similar to the query (late interaction), when candidates are rescored."""
    compare: Literal["centred", "cosine"] = "centred"
    """`centred`: cosine after the catalog's mean is taken off both sides, which tells items apart
    better. `cosine`: plain cosine of the vectors as they are, for vectors brought ready-made."""

    @model_validator(mode="after")
    def _item_is_reached(self) -> SpaceSpec:
        if self.item not in self.encoders:
            raise ValueError(
                f"space {self.name!r} has no encoder for its item modality {self.item!r}"
            )
        return self


class Preset(BaseModel):
    """A named set of spaces."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    spaces: Annotated[tuple[SpaceSpec, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_differ(self) -> Preset:
        names = [space.name for space in self.spaces]
        if len(set(names)) != len(names):
            raise ValueError(f"two spaces share a name: {sorted(names)}")
        return self
