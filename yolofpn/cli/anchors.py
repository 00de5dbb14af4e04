"""``yolofpn anchors``: fit anchors to a data set."""

from __future__ import annotations

from collections.abc import Sequence

from yolofpn.cli.arguments import DONE, Parser, count, image_size, positive_int, run_command
from yolofpn.cli.data import add_data_flags, take_data
from yolofpn.errors import UserError


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line, fit and print; return the exit code."""
    parser = Parser(prog="yolofpn anchors", description="Fit anchors to a data set, for pasting into a model config.")
    add = parser.add_argument
    add_data_flags(parser)
    add("--split", metavar="NAME", default="train", help="split of the data set")
    add("--cfg", metavar="FILE", help="model config: its input size and levels are used, its anchors compared")
    add("--img-size", type=image_size, metavar="N|HxW", help="network input size; default: the config's, else 416")
    add(
        "--num-anchors",
        type=positive_int,
        metavar="N",
        help="number of anchors over all levels; default: the config's, else 9",
    )
    add("--num-levels", type=positive_int, metavar="N", help="number of pyramid levels; default: the config's, else 3")
    add("--seed", type=count, metavar="N", default=0, help="random seed of the clustering")
    arguments = parser.parse_args(argv)

    def run() -> int:
        data = take_data(arguments)
        from yolofpn.config import YOLOHeadConfig, load_config
        from yolofpn.data.anchor_clusters import fit_anchors

        config = load_config(arguments.cfg) if arguments.cfg else None
        current: tuple[tuple[tuple[float, float], ...], ...] = ()
        if config:
            if not isinstance(config.model.head, YOLOHeadConfig):
                raise UserError(f"{arguments.cfg}: a head of type {config.model.head.type} has no fitted anchors")
            current = config.model.head.anchors
        lines = fit_anchors(
            data.source,
            root=data.root,
            voc_corners=data.voc_corners,
            split=arguments.split,
            network_size=arguments.img_size or (config.input.size if config else (416, 416)),
            num_anchors=arguments.num_anchors or sum(map(len, current)) or 9,
            num_levels=arguments.num_levels or len(current) or 3,
            seed=arguments.seed,
            current=current,
        )
        print("\n".join(lines))
        return DONE

    return run_command(run)


if __name__ == "__main__":
    raise SystemExit(main())
