"""Where the posterior of another prior is to be expected, from draws of the declared one's."""

import numpy as np


def expected_moments(old: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where the posterior of another prior is to be expected, were all Gaussian.

    Parameters
    ----------
    old, new : (block, draw, parameter) array
        The same draws of a posterior, in quantiles of its own prior and of the other one.

    Returns
    -------
    location : (block, parameter) array
        Mean of the other prior's posterior, in that prior's quantiles.
    factor : (block, parameter, parameter) array
        Cholesky factor of its covariance.
    """
    mean = old.mean(axis=1, keepdims=True), new.mean(axis=1, keepdims=True)
    away = old - mean[0], new - mean[1]
    # The new coordinate as a linear function of the old one, of which the prior is N(0, 1).
    slope = (away[0] * away[1]).sum(axis=1) / np.square(away[0]).sum(axis=1)
    centre = mean[1][:, 0] - slope * mean[0][:, 0]
    covariance = away[0].transpose(0, 2, 1) @ away[0] / (old.shape[1] - 1)
    variance, axes = np.linalg.eigh(covariance)
    along = (axes.transpose(0, 2, 1) @ mean[0].transpose(0, 2, 1))[..., 0]
    # What the posterior is narrower than the prior, and where it is drawn to, are the data's.
    narrow = variance < 1
    precision = np.where(narrow, 1 / variance - 1, 0.0)
    pull = np.where(narrow, along / variance, 0.0)
    # To the data comes the new prior, which in the old coordinates is N(-centre, 1) / slope.
    identity = np.eye(old.shape[2])
    total = (axes * precision[:, None]) @ axes.transpose(0, 2, 1)
    total += np.square(slope)[:, :, None] * identity
    pulled = (axes @ pull[..., None])[..., 0] - slope * centre
    covariance = np.linalg.inv(total)
    location = (covariance @ pulled[..., None])[..., 0] * slope + centre
    return location, np.linalg.cholesky(covariance) * slope[:, :, None]
