"""Train a network from image-level labels: `python train.py --cfg configs/voc_resnet38.yaml`."""

from __future__ import annotations

import argparse

from core.arguments import add_common_arguments, run_folder, settings_from_arguments
from core.devices import make_deterministic
from core.distributed import join_group, process_group, rank_zero_speaks_first
from core.training.run import TrainingRun
from utils.errors import run_command
from utils.files import user_path
from utils.missing import missing_names_to


def main() -> None:
    args = parse_args()
    if args.deterministic:
        make_deterministic()
    with process_group():
        run(args)


def run(args: argparse.Namespace) -> None:
    group, device = join_group(args.device, spread=True)
    with rank_zero_speaks_first(group), missing_names_to(args.missing_to):
        config, info = settings_from_arguments(args)
        TrainingRun(
            config,
            info,
            snapshots=run_folder(args.snapshot_dir, info.name, args),
            logs=run_folder(args.logdir, info.name, args),
            resume=args.resume,
            overwrite=args.overwrite,
            seed=args.random_seed,
            device=device,
            group=group,
            init_from=args.init_from,
        ).run()


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    add_common_arguments(parser)
    parser.add_argument(
        "--overwrite", action="store_true", help="discard an earlier run of this name"
    )
    parser.add_argument(
        "--init-from",
        type=user_path,
        metavar="SNAPSHOT",
        help="start from a snapshot of other classes, all of it but their layer, in place of "
        "ImageNet weights; with --resume auto, if there is no last state",
    )
    parser.add_argument(
        "--deterministic",
        action="store_true",
        help="the same bits in every run on the same GPU, as far as PyTorch can; slower",
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    run_command(main)
