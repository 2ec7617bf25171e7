"""The gradient of a likelihood that is smoothed by draws around an estimate."""

from torch import Tensor

from ...target import Posterior


def smoothed_score(target: Posterior, x0: Tensor, cloud: Tensor | None) -> Tensor:
    """The gradient of the log of the mean of f over `x0 + cloud`, at `x0` `[n, *event]`."""
    space, likelihood, y = target.space, target.likelihood, target.y
    if cloud is None:
        return likelihood.score(y, x0)
    points = cloud.shape[1]
    x, measurement = (x0[:, None] + cloud).flatten(0, 1), likelihood.measurement
    if measurement is not None and measurement.batch(y).numel() > 1:
        y = y.repeat_interleave(points, 0)
    scores = likelihood.score(y, x).reshape(cloud.shape)
    if points == 1:
        return scores[:, 0]
    weight = likelihood.log_prob(y, x).reshape(len(x0), points).softmax(-1)
    return (space.per_sample(weight) * scores).sum(1)
