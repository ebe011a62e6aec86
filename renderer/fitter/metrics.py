"""How alike two pictures are."""

import numpy as np

from streamer.types import U8

WINDOW_SIGMA = 1.5
K1, K2 = 0.01, 0.03


def psnr(picture: U8, truth: U8) -> float:
    """Return the peak signal-to-noise ratio in dB over all pixels and channels; infinite for equal pictures."""
    error = np.mean((picture.astype(np.float64) - truth.astype(np.float64)) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255.0**2 / error))


def ssim(picture: U8, truth: U8) -> float:
    """Return the structural similarity (Wang et al., IEEE TIP 2004), mean over pixels and channels.

    A Gaussian window of 11 px and 1.5 px standard deviation; the border of 5 px is left out.
    """
    import cv2

    a, b = picture.astype(np.float64), truth.astype(np.float64)

    def blur(x: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        return np.asarray(cv2.GaussianBlur(x, (11, 11), WINDOW_SIGMA), np.float64)

    c1, c2 = (K1 * 255) ** 2, (K2 * 255) ** 2
    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b, both = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2, blur(a * b) - mean_a * mean_b
    value = (2 * mean_a * mean_b + c1) * (2 * both + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return float(value[5:-5, 5:-5].mean())
