"""The pictures of README.md: original, masked and filled side by side; whole, and a part at full resolution.

python examples/pictures.py docs/images
"""

import sys
from pathlib import Path

from PIL import Image

import rethined

FOLDER = Path(__file__).parent
WIDTH = 1500
"""Of each picture."""
GAP = 6
"""White pixels between panels."""
CLOSE_UP = (960, 1960, 1456, 2300)
"""Left, top, right and bottom of the part of the city that is shown pixel by pixel."""


def main(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for name in ("city", "stones"):
        photo = Image.open(FOLDER / "photos" / f"{name}.jpg").convert("RGB")
        mask = Image.open(FOLDER / "masks" / f"{name}.png")
        result = rethined.inpaint(photo, mask)
        masked = Image.composite(Image.new("RGB", photo.size, "grey"), photo, mask)
        panels = [photo, masked, result]
        rows = [panels]
        if name == "city":
            rows.append([panel.crop(CLOSE_UP) for panel in panels])
        sheet(rows, photo.info.get("icc_profile"), out / f"{'demo' if name == 'city' else name}.jpg")


def sheet(rows: list[list[Image.Image]], profile: bytes | None, path: Path) -> None:
    """Write `rows` of panels of one size, each reduced to its share of the width, never enlarged."""
    side = (WIDTH - GAP * (len(rows[0]) - 1)) // len(rows[0])
    rows = [
        [panel.resize((side, side * panel.height // panel.width), reducing_gap=3) for panel in row] for row in rows
    ]
    height = sum(row[0].height for row in rows) + GAP * (len(rows) - 1)
    page = Image.new("RGB", (WIDTH, height), "white")
    top = 0
    for row in rows:
        for column, panel in enumerate(row):
            page.paste(panel, (column * (side + GAP), top))
        top += row[0].height + GAP
    page.save(path, quality=88, icc_profile=profile)
    print(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
