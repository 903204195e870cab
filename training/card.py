"""The model card's figures, written into `docs/model-card.md` between its two markers from the evaluation's JSON."""

from pathlib import Path

from .paths import EXPORT, ROOT, read_json, replace_file
from .vocabulary import BY_KEY

CARD = ROOT.parent / "docs" / "model-card.md"
BEGIN, END = "<!-- figures: python -m training card -->\n", "<!-- end of figures -->"


def figures_text(figures: dict) -> str:
    """The table of instructions, and what else was measured, in Markdown."""
    repeats = figures.get("error_of_ten_repeats", {})
    lines = [
        "| instruction | family | error left | added outside | nearest truth right "
        "| ten repeats (last, largest) | passed |",
        "|---|---|---:|---:|---:|---|---|",
    ]
    for key, row in figures["instructions"].items():
        outside = f"{row['outside']:.3f}" if "outside" in row else "–"
        again = "{mean:.2f} ({last:.2f}, {largest:.2f})".format(**repeats[key]) if key in repeats else "–"
        lines.append(
            f"| {BY_KEY[key].wordings[0]} | {row['family']} | {row['relative_error']:.2f} | {outside} "
            f"| {row['nearest_right']}/{row['pairs']} | {again} | {'yes' if row['passed'] else '**no**'} |"
        )
    right = (
        f"nearest of all truths of that view, by mean CIELAB distance, is the right one in "
        f"{figures['nearest_right']:.0%} (by squared error of RGB in {figures['nearest_right_by_squared_error']:.0%})"
    )
    passed = f"{figures['passed']} of {len(figures['instructions'])} pass"
    lines += ["", f"{passed}. Told only the edited pictures, the {right}.", ""]
    codec = figures["codec"]
    lines.append(
        f"Codec alone: {codec['psnr_db']:.1f} dB (worst tenth {codec['psnr_db_worst_tenth']:.1f}), red–green "
        f"{codec['red_green_kept']:.0%} kept, blue–yellow {codec['blue_yellow_kept']:.0%}."
    )
    if "by_text_guidance" in figures:
        for name, label in (
            ("by_text_guidance", "text guidance"), ("by_image_guidance", "image guidance"), ("by_noise_level", "t"),
        ):  # fmt: skip
            curve = figures[name]
            lines += ["", f"| {label} | " + " | ".join(map(str, curve)) + " |", "|---|" + "---:|" * len(curve)]
            for measure in ("change", "error"):
                lines.append(f"| {measure} | " + " | ".join(f"{p[measure]:.3f}" for p in curve.values()) + " |")
        times, throughout = (
            ", ".join(f"{seconds:.2f} s at {size} pixels" for size, seconds in figures[name].items())
            for name in ("seconds_per_edit", "seconds_guided_throughout")
        )
        lines += [
            "",
            f"Texts that mean nothing change a photograph by {figures['unknown_text_change']:.0%} of its contrast.",
            f"One edit of 20 steps with both guidance scales on two cores: {times} "
            f"(guided in every step: {throughout}).",
        ]
    return "\n".join(lines) + "\n"


def write(weights: Path = EXPORT) -> None:
    text = CARD.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    card = before + BEGIN + figures_text(read_json(weights / "figures.json")) + END + after
    replace_file(CARD, lambda path: path.write_text(card, "utf-8"))
