"""Makes ``notebooks/images/coins_truth.png``: a label map of the coins, for lessons and examples.

Classical steps on an easy picture: even out the lighting, threshold, take convex hulls. Good to a
pixel or two, which is enough to play with; not a benchmark::

    python docs/make_coins_truth.py
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from dynamite_widget import load_image

IMAGES = Path(__file__).resolve().parents[1] / "notebooks" / "images"
COINS = 24


def main() -> None:
    """Find the coins and write the label map."""
    grey = cv2.cvtColor(load_image(IMAGES / "coins.jpg"), cv2.COLOR_RGB2GRAY)
    wide = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (61, 61))
    light = cv2.morphologyEx(cv2.GaussianBlur(grey, None, 3), cv2.MORPH_OPEN, wide)
    bright = cv2.subtract(grey, light)
    threshold, _ = cv2.threshold(bright, 0, 255, cv2.THRESH_OTSU)
    mask = (bright > 0.62 * threshold).astype(np.uint8)
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3)))
    round_7 = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7))
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, round_7)
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    hulls = [cv2.convexHull(outline) for outline in outlines]
    hulls = [hull for hull in hulls if 600 < cv2.contourArea(hull) < 6000]
    if len(hulls) != COINS:
        raise SystemExit(f"found {len(hulls)} coins instead of {COINS}")
    hulls.sort(key=cv2.contourArea, reverse=True)
    truth = np.zeros(grey.shape, np.uint8)
    for number, hull in enumerate(hulls, 1):
        cv2.fillPoly(truth, [hull], number)
    Image.fromarray(truth).save(IMAGES / "coins_truth.png", optimize=True)


if __name__ == "__main__":
    main()
