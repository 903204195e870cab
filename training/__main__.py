"""`python -m training COMMAND`: every step of the training, each one resumable command."""

import argparse
from pathlib import Path

from engine.process import set_up_process

from .paths import EXPORT

set_up_process(spins=2000)  # some microseconds: with more a shared machine crawls


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("photos", help="fetch the photographs with a free licence")
    command = commands.add_parser("pairs", help="render pairs of views before and after an edit")
    command.add_argument("--first", type=int, default=0, help="first training shard of 100 scenes")
    command.add_argument("--last", type=int, default=30, help="the shard after the last one")
    command = commands.add_parser("vae", help="train the picture codec")
    command.add_argument("--steps", type=int, default=20000, help="steps in all, earlier ones counted")
    command.add_argument("--decoder-only", action="store_true", help="leave the latents as they are")
    command = commands.add_parser("latents", help="encode all pairs and photographs with the finished codec")
    command.add_argument("--size", type=int, default=128, help="pixels; training begins at 64 and ends at 128")
    command.add_argument("--photo-shards", type=int, default=12)
    command = commands.add_parser("train", help="train the denoiser and the text encoder")
    command.add_argument("--size", type=int, default=128, help="pixels of the cached latents to train on")
    command.add_argument("--steps", type=int, required=True, help="steps in all, earlier ones counted")
    command.add_argument("--batch", type=int, default=12)
    command.add_argument("--cool-down", type=int, default=0, help="last steps over which the rate falls to nothing")
    command = commands.add_parser("finish", help="train the decoder on what the denoiser gives")
    command.add_argument("--steps", type=int, default=600, help="more steps")
    command = commands.add_parser("export", help="write the newest model where the engine takes it")
    command.add_argument("--folder", type=Path, default=EXPORT)
    command.add_argument("--average-with", type=Path, help="an earlier export, the mean with which is written")
    command = commands.add_parser("evaluate", help="measure the exported model on held-out scenes and photographs")
    command.add_argument("--weights", type=Path, default=EXPORT)
    command.add_argument("--pairs", type=int, default=16, help="held-out pairs for each instruction")
    command.add_argument("--steps", type=int, help="DDIM steps of an edit, else as many as the model recommends")
    command.add_argument("--only-table", action="store_true", help="leave out curves, repeats and speed")
    commands.add_parser("card", help="write the evaluation's figures into docs/model-card.md")
    command = commands.add_parser("tune", help="compare guidance scales on pictures that the evaluation does not use")
    command.add_argument("--weights", type=Path, default=EXPORT)
    command = commands.add_parser("sheets", help="picture sheets of the exported model")
    command.add_argument("photos", nargs="*", type=Path, help="photographs for the vocabulary sheet")
    command.add_argument("--folder", type=Path, required=True, help="where the sheets go")
    command.add_argument("--weights", type=Path, default=EXPORT)
    arguments = parser.parse_args()

    if arguments.command == "photos":
        from . import photos

        photos.fetch()
    elif arguments.command == "pairs":
        from . import pairs

        pairs.render(arguments.first, arguments.last)
    elif arguments.command == "vae":
        from . import vae

        vae.train(arguments.steps, arguments.decoder_only)
    elif arguments.command == "latents":
        from . import latents

        latents.build(arguments.size, arguments.photo_shards)
    elif arguments.command == "train":
        from . import train

        train.train(arguments.steps, arguments.size, arguments.batch, arguments.cool_down)
    elif arguments.command == "finish":
        from . import finish

        finish.finish(arguments.steps)
    elif arguments.command == "export":
        from . import export

        export.export(arguments.folder, arguments.average_with)
    elif arguments.command == "evaluate":
        from . import evaluate

        evaluate.evaluate(arguments.weights, arguments.pairs, arguments.steps, arguments.only_table)
    elif arguments.command == "card":
        from . import card

        card.write()
    elif arguments.command == "tune":
        from . import evaluate

        evaluate.tune(arguments.weights)
    elif arguments.command == "sheets":
        from . import sheets

        sheets.make(arguments.photos, arguments.folder, arguments.weights)


if __name__ == "__main__":
    main()
