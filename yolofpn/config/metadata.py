"""Metadata stored in weights."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from yolofpn.errors import UserError
from yolofpn.fields import NonNegativeInt, StrictModel
from yolofpn.models.model_config import InputConfig, ModelConfig, PostprocessConfig
from yolofpn.reading import MAX_CLASSES, is_encodable, short


class DarknetHeader(StrictModel):
    """The first numbers of a ``.weights`` file."""

    major: NonNegativeInt
    minor: NonNegativeInt
    revision: int = Field(ge=-(2**31), lt=2**31)
    seen: int = Field(ge=0, lt=2**64)


class Metadata(StrictModel):
    """Metadata stored in weights; ``stored.py`` defines the stored format.

    Attributes:
        model: the native network; None for one that is built from a Darknet cfg.
        darknet_cfg: the text of that cfg.
        category_ids: the data set's id of each label (COCO's 80 labels carry ids up to 90).
        header: of the ``.weights`` file that the numbers came from.
        card: what people should know of the weights: data, licence, recipe, limits. Markdown.
    """

    model: ModelConfig | None = None
    darknet_cfg: str | None = None
    input: InputConfig = InputConfig()
    postprocess: PostprocessConfig = PostprocessConfig()
    names: tuple[str, ...] = Field(max_length=MAX_CLASSES)
    category_ids: tuple[int, ...] = ()
    header: DarknetHeader | None = None
    card: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> Metadata:
        if (self.model is None) == (self.darknet_cfg is None):
            raise ValueError("exactly one of model and darknet_cfg must be given")
        for key, text in [("darknet_cfg", self.darknet_cfg), ("card", self.card), *(("names", n) for n in self.names)]:
            if text and not is_encodable(text):
                raise ValueError(f"{key}: {short(text)} cannot be encoded as UTF-8")
        if self.category_ids and len(self.category_ids) != len(self.names):
            raise ValueError(f"{len(self.category_ids)} category ids for {len(self.names)} names")
        thresh = self.postprocess.score_thresh
        if isinstance(thresh, tuple) and len(thresh) != len(self.names):
            raise ValueError(f"{len(thresh)} score thresholds for {len(self.names)} names")
        return self


def rename_classes(metadata: Metadata, names: tuple[str, ...], origin: str | Path, path: Path) -> Metadata:
    """With the ``names`` of the file ``origin`` in place of those that the weights at ``path`` know.

    Raises:
        UserError: they are more or fewer.
    """
    if len(names) != len(metadata.names):
        raise UserError(f"{origin} holds {len(names)} names, {path} has {len(metadata.names)} classes")
    return metadata.model_copy(update={"names": names})
