"""Photometric augmentation on RGB uint8 pictures: colour, grey, blur, JPEG, noise."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class ColourConfig:
    """Probabilities (0 switches an effect off) and strengths.

    ``strength`` scales contrast, brightness and saturation changes; 1 is strong, 0.5 moderate.
    """

    tone: float = 0.7
    saturation: float = 0.4
    grey: float = 0.05
    blur: float = 0.12
    jpeg: float = 0.15
    noise: float = 0.1
    strength: float = 0.7


def tone_table(rng: np.random.Generator, strength: float) -> Picture:
    """Return a (256, 1, 3) uint8 look-up table: random gamma, contrast, brightness, colour cast."""
    levels = np.linspace(0.0, 1.0, 256)[:, None]
    gamma = np.exp(rng.uniform(-0.45, 0.45) * strength)
    contrast = np.exp(rng.uniform(-0.45, 0.45) * strength)
    brightness = rng.uniform(-0.2, 0.2) * strength
    cast = np.exp(rng.normal(0.0, 0.06 * strength, (1, 3)))
    table = ((levels**gamma - 0.5) * contrast + 0.5 + brightness) * cast
    return (np.clip(table, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)[:, None, :]


def _saturate(picture: Picture, rng: np.random.Generator, strength: float) -> Picture:
    hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)
    levels = np.arange(256, dtype=np.float64)
    table = np.empty((256, 1, 3), np.uint8)
    # OpenCV keeps hue in 0..179 for uint8
    table[:, 0, 0] = (levels + rng.uniform(-9, 9) * strength) % 180
    table[:, 0, 1] = np.clip(levels * np.exp(rng.uniform(-0.7, 0.5) * strength), 0, 255)
    table[:, 0, 2] = levels
    return np.asarray(cv2.cvtColor(cv2.LUT(hsv, table), cv2.COLOR_HSV2RGB), np.uint8)


def jitter(picture: Picture, rng: np.random.Generator, config: ColourConfig) -> Picture:
    """Return a randomly changed copy of an (H, W, 3) uint8 RGB picture."""
    if rng.random() < config.tone:
        picture = np.asarray(cv2.LUT(picture, tone_table(rng, config.strength)), np.uint8)
    if rng.random() < config.saturation:
        picture = _saturate(picture, rng, config.strength)
    if rng.random() < config.grey:
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        picture = np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), np.uint8)
    if rng.random() < config.blur:
        sigma = float(np.exp(rng.uniform(np.log(0.4), np.log(1.6))))
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma), np.uint8)
    if rng.random() < config.noise:
        noise = np.empty(picture.shape, np.int16)
        # OpenCV's generator is global; seeding it keeps a sample a pure function of its number
        cv2.setRNGSeed(int(rng.integers(2**31)))
        cv2.randn(noise, (0, 0, 0), (float(rng.uniform(2, 12)),) * 3)
        picture = np.asarray(cv2.add(picture, noise, dtype=cv2.CV_8U), np.uint8)
    if rng.random() < config.jpeg:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 90))]
        done, encoded = cv2.imencode(".jpg", picture, quality)
        if done:
            picture = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)
    return picture
