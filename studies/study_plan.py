"""A study: the systems that it compares, and at what size they are trained."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from pydantic import PositiveFloat, model_validator

from yolofpn.config import StrictModel, read_yaml, validate
from yolofpn.errors import UserError
from yolofpn.files import write_atomically, write_errors

SETTINGS = "study.json"
RECIPES = "recipes"  # the key in it
_PRINTED_ONLY = {"title", "table", "paper_row"}  # of a row: they change no number
TableName = Literal["rpn", "fast_rcnn", "faster_rcnn"]


class StudyRow(StrictModel):
    """One row: a model to train, or another row's model evaluated differently.

    Attributes:
        title: as printed in the tables.
        cfg: the model's YAML, relative to the study's.
        overrides: changes to it, ``section.key=value``.
        weights_of: the row whose weights are evaluated, in place of a cfg.
        pyramid: evaluate on an image pyramid: each size as a multiple of the network's input.
        paper_row: the letter of the same system in the paper's tables.
        table: the only one of the study's tables that it stands in; None: in all.
        proposals_of: the row whose proposals it learns from and is measured on, those of the same seed.
    """

    title: str
    cfg: str | None = None
    overrides: tuple[str, ...] = ()
    weights_of: str | None = None
    pyramid: tuple[PositiveFloat, ...] | None = None
    paper_row: str | None = None
    table: TableName | None = None
    proposals_of: str | None = None

    @model_validator(mode="after")
    def _one_source_of_weights(self) -> StudyRow:
        if (self.cfg is None) == (self.weights_of is None):
            raise ValueError("give either cfg or weights_of")
        if self.cfg is None and self.proposals_of is not None:
            raise ValueError("proposals_of: the row whose weights it takes has its proposals too")
        return self

    @property
    def needs(self) -> tuple[str, ...]:
        """The rows that come before it."""
        return tuple(name for name in (self.weights_of, self.proposals_of) if name is not None)


class Study(StrictModel):
    """A study: a YAML file that lists rows.

    Attributes:
        title: of the whole.
        tables: the paper's tables to print the results beside.
        overrides: changes to the cfg of every row.
        rows: by their short names, in the order of the tables.
    """

    title: str
    tables: tuple[TableName, ...]
    overrides: tuple[str, ...] = ()
    rows: dict[str, StudyRow]

    @model_validator(mode="after")
    def _rows_refer_to_trained_ones(self) -> Study:
        for name, row in self.rows.items():
            for key, other in (("weights_of", row.weights_of), ("proposals_of", row.proposals_of)):
                if other is not None and getattr(self.rows.get(other), "cfg", None) is None:
                    raise ValueError(f"rows.{name}.{key}: {other!r} is not a row with a cfg")
            if row.proposals_of is not None and self.rows[row.proposals_of].proposals_of is not None:
                raise ValueError(f"rows.{name}.proposals_of: {row.proposals_of!r} makes none, it takes another's")
            if row.table is not None and row.table not in self.tables:
                raise ValueError(f"rows.{name}.table: {row.table!r} is none of the study's tables")
        return self

    @model_validator(mode="after")
    def _only_rows_with_proposals_in_their_table(self) -> Study:
        for name, row in self.rows.items():
            takes_them = self.rows[row.weights_of or name].proposals_of is not None
            if takes_them and "rpn" in (self.tables if row.table is None else (row.table,)):
                raise ValueError(
                    f"rows.{name}.table: it takes another row's proposals and cannot stand in table 'rpn': "
                    "name another of the study's tables"
                )
        return self


@dataclass(frozen=True)
class Size:
    """Settings that override every row's; None: the values of the rows' YAMLs.

    Attributes:
        data: the data set.
        weights: what every training starts from, such as a backbone that was trained on ImageNet.
        epochs: of each training.
        batch_size: images that go through the network together.
        img_size: (height, width) of the network's input.
        device: as ``--device`` names it.
        workers: processes that load images.
        overrides: changes to the cfg of every row, after those of the study itself.
    """

    data: str | None = None
    weights: str | None = None
    epochs: int | None = None
    batch_size: int | None = None
    img_size: tuple[int, int] | None = None
    device: str | None = None
    workers: int | None = None
    overrides: tuple[str, ...] = ()


def load_study(path: Path) -> Study:
    """Read a study.

    Raises:
        UserError: if it is missing or no YAML, or keys or values are wrong.
    """
    return validate(Study, read_yaml(path), str(path))


def choose_rows(study: Study, names: tuple[str, ...] | None) -> list[str]:
    """The rows asked for and those that they need, which come first; all where none is named.

    Raises:
        UserError: if there is no such row.
    """
    wanted = set(study.rows if names is None else names)
    for name in sorted(wanted):
        if name not in study.rows:
            raise UserError(f"--rows: there is no row {name!r}: the study's are {', '.join(study.rows)}")
        needed = study.rows[name].needs
        wanted.update(needed, *(study.rows[other].needs for other in needed))
    chosen = [name for name in study.rows if name in wanted]
    return sorted(chosen, key=lambda name: _generation(study, name))


def _generation(study: Study, name: str) -> int:
    """Return the number of rows that must run before it."""
    return max((1 + _generation(study, other) for other in study.rows[name].needs), default=0)


def recipes_of(study: Study, folder: Path) -> dict[str, str]:
    """A digest for each row of all that the YAMLs say of its training and evaluation; comments and order do not count.

    A row whose cfg cannot be read has none: its training says what is wrong.

    Args:
        study: what was read.
        folder: that the rows' cfgs are relative to.
    """
    recipes = {}
    for name, row in study.rows.items():
        try:
            cfg = None if row.cfg is None else read_yaml(folder / row.cfg)
        except UserError:
            continue
        parts = [study.overrides, row.model_dump(exclude=_PRINTED_ONLY, exclude_defaults=True), cfg]
        text = json.dumps(parts, sort_keys=True, default=str)
        recipes[name] = hashlib.sha256(text.encode()).hexdigest()
    return recipes


def keep_settings(output: Path, study: Path, size: Size, recipes: Mapping[str, str]) -> None:
    """Write the settings of the study to the output folder, or check that they are unchanged.

    Args:
        output: the folder.
        study: the study's YAML.
        size: what the user chose.
        recipes: digests by row; they may be of more rows than before.

    Raises:
        UserError: if the folder holds a study of another size or with other recipes, or cannot be written.
    """
    settings = {"study": str(study.resolve()), **json.loads(json.dumps(asdict(size)))}
    path = output / SETTINGS
    # Only one of several processes that begin at the same time creates the file; the others compare.
    with write_errors(path), contextlib.suppress(FileExistsError):
        output.mkdir(parents=True, exist_ok=True)
        with path.open("x") as file:
            file.write(_as_text({**settings, RECIPES: dict(recipes)}))
    before = read_settings(output)
    for key, value in settings.items():
        if before.get(key) != value:
            raise UserError(
                f"{output}: holds a study with {key} {before.get(key)}, not {value}: "
                "resume with the same, or choose another --output"
            )
    noted = before.get(RECIPES)
    if not isinstance(noted, dict):  # begun before recipes were noted
        return
    for name, digest in recipes.items():
        if noted.get(name, digest) != digest:
            raise UserError(
                f"{output}: holds row {name} as it was before {study} or its cfg was changed\n"
                "undo the change to resume, or choose another --output"
            )
    if not recipes.keys() <= noted.keys():
        write_atomically(path, _as_text({**before, RECIPES: {**noted, **recipes}}).encode())


def _as_text(settings: Mapping[str, object]) -> str:
    return json.dumps(settings, indent=2) + "\n"


def read_settings(output: Path) -> dict[str, object]:
    """Read what ``keep_settings`` wrote.

    Raises:
        UserError: if the folder holds no study, or its note is damaged.
    """
    path = output / SETTINGS
    try:
        settings = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}: name the --output folder of a study run") from None
    except ValueError:
        settings = None
    if not isinstance(settings, dict) or not isinstance(settings.get("study"), str):
        raise UserError(f"{path}: is damaged: run the study anew with another --output")
    return settings
