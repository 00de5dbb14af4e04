"""The plan of a run: flags, config and, for a resumed run, its checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from yolofpn.config import Config, load_config, validate
from yolofpn.config.config_file import with_data
from yolofpn.errors import UserError
from yolofpn.reading import ParseError, parse_json
from yolofpn.text import as_yaml
from yolofpn.training.added_plan import added_settings
from yolofpn.training.asked_for import STAYS, describe
from yolofpn.training.checkpoint import LAST, read_checkpoint

RUNS = Path("runs/train")

# Overfitting on a few images needs neither variety nor an average over steps, but many steps.
OVERFIT_OVERRIDES = (
    "augment={flip: 0, vertical_flip: 0, hue: 0, saturation: 0, brightness: 0, scale: [1, 1], translate: 0, crop: 0, "
    "mosaic: 0, mixup: 0}",
    "train.optimizer={type: adamw, lr: 1e-3, weight_decay: 0}",
    "train.schedule={type: cosine, final: 0.05}",
    "train.warmup_steps=20",
    "train.ema_decay=0",
    "train.multi_scale=null",
    "train.patience=null",
    "train.nominal_batch_size=1",
    "train.repeat_thresh=0",
    "train.reference_images=null",
)
# Epochs fall with the root of the number of images, roughly: a few images need many steps too, but are overfit on.
EPOCHS_EXPONENT = 0.55
LEAST_EPOCHS, MOST_EPOCHS = 20, 600
OVERFIT_EPOCHS = 300
MAY_CHANGE = ("resume", "epochs", "data", "workers", "device", "output")  # when a run is resumed
PLACES_OF_DATA = ("data.root=", "data.proposals=")
OVERFIT_BATCH = 16
OVERFIT_EVALUATIONS = 10


@dataclass(frozen=True)
class TrainOptions:
    """Options of ``train.py``, see its --help; None: the value of the cfg, or of the resumed run."""

    cfg: str | Path | None = None
    data: str | Path | None = None
    weights: str | None = None
    resume: str | Path | None = None
    auto_resume: bool = False
    overfit: int | None = None
    dry_run: bool = False
    epochs: int | None = None
    minutes: float | None = None
    batch_size: int | None = None
    img_size: tuple[int, int] | None = None
    depth: str | None = None
    device: str | None = None
    workers: int | None = None
    seed: int | None = None
    output: str | Path | None = None
    add_classes: str | Path | None = None
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """The plan of a run.

    Attributes:
        config: complete; a resumed run has that of its checkpoint.
        name: what the run's folder is called by default.
        output: the run's folder; None: the next free one of its name.
        weights: what the model starts from, None for nothing.
        checkpoint: ``last.pt`` of the run that goes on.
        overfit: train and evaluate on so many images only.
        device: as ``--device`` names it.
        dry_run: look at everything, train nothing.
        asked: what the run was asked for when it began: see ``asked_for.describe``.
    """

    config: Config
    name: str = "run"
    output: Path | None = None
    weights: str | None = None
    checkpoint: Path | None = None
    overfit: int | None = None
    device: str = "auto"
    dry_run: bool = False
    asked: str = ""


def make_plan(options: TrainOptions) -> Plan:
    """The plan that the flags of train.py ask for, of a new run or with ``resume``.

    Raises:
        UserError: no cfg is given, it is wrong, or the run that should go on cannot.
    """
    if options.resume is not None:
        _refuse_changes(options)
        return resume_plan(options)
    cfg, name = options.cfg, Path(options.cfg or "run").stem
    first: list[str] = []
    if options.add_classes is not None:
        if options.data is not None:
            raise UserError("--data and --add-classes cannot be combined: --add-classes is the data set")
        cfg, first = added_settings(options.weights, options.cfg, str(options.add_classes))
        name = f"{Path(options.weights or name).stem}-added"
    if cfg is None:
        raise UserError("give a model config with --cfg, such as --cfg cfg/yolofpn-lite.yaml, or a run with --resume")
    values = {
        "train.epochs": options.epochs,
        "train.minutes": options.minutes,
        "train.batch_size": options.batch_size,
        "input.size": options.img_size,
        "input.depth": options.depth,
        "train.workers": options.workers,
        "train.seed": options.seed,
        "data.source": None if options.data is None else str(options.data),
    }
    if options.epochs or options.minutes or any(word.startswith("train.epochs=") for word in options.overrides):
        given_length = ["train.reference_images=null"]
    else:
        given_length = []
    given = [f"{key}={as_yaml(value)}" for key, value in values.items() if value is not None]
    if options.overfit is not None:
        batch = f"train.batch_size={min(options.overfit, OVERFIT_BATCH)}"
        given = [*OVERFIT_OVERRIDES, f"train.epochs={OVERFIT_EPOCHS}", batch, *given]
    config = with_absolute_paths(load_config(cfg, [*given_length, *first, *given, *options.overrides]))
    weights = None if options.weights == "none" else options.weights or "auto"
    asked = describe(config, weights, options.overfit)
    if options.overfit is not None and not any(word.startswith("train.eval_interval=") for word in options.overrides):
        config = change_train(config, eval_interval=max(1, config.train.epochs // OVERFIT_EVALUATIONS))
    return Plan(
        config,
        name=name,
        output=None if options.output is None else Path(options.output),
        weights=weights,
        overfit=options.overfit,
        device=options.device or "auto",
        dry_run=options.dry_run,
        asked=asked,
    )


def resume_plan(options: TrainOptions) -> Plan:
    """The plan of a run that is resumed from its last checkpoint.

    Args:
        options: ``resume`` names its folder or the checkpoint in it, and is empty for the newest unfinished one; with
            how many epochs, from which place of its data, where, with how many workers and into which folder it is
            resumed, if they are given.

    Raises:
        UserError: there is no such run, or it is finished.
    """
    run_dir = Path(options.resume) if options.resume else newest_unfinished_run()
    if run_dir.name == LAST and run_dir.is_file():
        run_dir = run_dir.parent
    checkpoint = run_dir / LAST
    if run_dir.is_dir() and not checkpoint.is_file():
        raise UserError(f"{run_dir}: has no {LAST}: the run ended before its first step, so start it anew")
    content = read_checkpoint(checkpoint, only_look=True)
    config = _config_of(content["config"], checkpoint)
    before, progress = config.train.epochs, content["progress"]
    config = resumed_config(config, options)
    if config.train.epochs == before and progress["finished"]:
        early = ", as its AP rose no more" if progress["epoch"] < before else ""
        raise UserError(
            f"{run_dir}: is finished after {progress['epoch']} epochs{early}; --epochs N above {before} extends it"
        )
    return Plan(
        config,
        output=run_dir if options.output is None else Path(options.output),
        checkpoint=checkpoint,
        overfit=content["overfit"],
        device=options.device or content.get("device", "auto"),
        asked=content["asked"],
    )


def resumed_config(config: Config, options: TrainOptions) -> Config:
    """The config of a run that is resumed with other epochs, workers or places of its data."""
    if options.epochs is not None:
        if options.epochs < config.train.epochs:
            raise UserError(
                f"--epochs {options.epochs}: a resumed run can only become longer than {config.train.epochs}"
            )
        config = change_train(config, epochs=options.epochs)
    if options.workers is not None:
        config = change_train(config, workers=options.workers)
    given = [] if options.data is None else [f"data.source={as_yaml(str(options.data))}", "data.root=null"]
    if words := [*given, *options.overrides]:
        config = with_absolute_paths(config.model_copy(update={"data": with_data(config.data, words)}))
    return config


def _config_of(text: str, checkpoint: Path) -> Config:
    try:
        tree = parse_json(text)
    except ParseError as error:
        raise UserError(f"{checkpoint}: its config is damaged ({error})") from None
    return validate(Config, tree, str(checkpoint))


def newest_unfinished_run() -> Path:
    """The run folder whose last checkpoint was written last, of those that have not finished.

    Raises:
        UserError: there is none.
    """
    checkpoints = sorted(RUNS.glob(f"*/{LAST}"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in checkpoints:
        try:
            if not read_checkpoint(path, only_look=True)["progress"]["finished"]:
                return path.parent
        except UserError:
            continue  # a damaged one is no reason not to go on with another
    raise UserError(f"no unfinished run in {RUNS}: give one with --resume RUN_DIR")


def with_absolute_paths(config: Config) -> Config:
    """Make the paths of a config absolute: a run may be resumed from another working directory."""
    data = config.data
    if data is None:
        return config
    paths: dict[str, object] = {"source": _absolute(data.source), "root": data.root and _absolute(data.root)}
    if data.proposals is not None:
        files = {split: _absolute(path) for split, path in data.proposals.model_dump().items()}
        paths["proposals"] = data.proposals.model_copy(update=files)
    return config.model_copy(update={"data": data.model_copy(update=paths)})


def _absolute(path: str) -> str:
    return str(Path(path).resolve())


def change_train(config: Config, **values: Any) -> Config:  # noqa: ANN401
    """``config`` with other values in its section ``train``; what the YAML file itself sets is still known."""
    return config.model_copy(update={"train": config.train.model_copy(update=values)})


def with_epochs_for(config: Config, images: int) -> Config:
    """The config of a run on so many images, if its number of epochs depends on them."""
    reference = config.train.reference_images
    if reference is None:
        return config
    epochs = round(config.train.epochs * (reference / images) ** EPOCHS_EXPONENT)
    return with_epochs(config, max(LEAST_EPOCHS, min(epochs, MOST_EPOCHS)), reference_images=None)


def with_epochs(config: Config, epochs: int, **changes: int | None) -> Config:
    """The config of a longer or shorter run; its epochs without mosaic stay the same share of it.

    Args:
        config: of the run.
        epochs: of the whole run.
        changes: other values of the section train.
    """
    close = round(config.augment.close_epochs * epochs / config.train.epochs)
    changed = change_train(config, epochs=epochs, **changes)
    return changed.model_copy(update={"augment": config.augment.model_copy(update={"close_epochs": close})})


def _refuse_changes(options: TrainOptions) -> None:
    for field in fields(options):
        if field.name in MAY_CHANGE or getattr(options, field.name) == field.default:
            continue
        flag = "--" + field.name.replace("_", "-")
        if field.name == "overrides":
            refused = [word for word in options.overrides if not word.startswith(PLACES_OF_DATA)]
            if not refused:
                continue
            flag = refused[0]
        raise UserError(f"{flag} cannot be given with --resume: {STAYS}")
