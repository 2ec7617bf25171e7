"""What is looked at of a caller's network."""

import pytest
from torch import nn

import posteria as po
from posteria.core.modules import Mode


@pytest.mark.parametrize(
    "layer",
    [
        nn.RReLU(),
        nn.MultiheadAttention(4, 2, dropout=0.1),
        nn.LSTM(4, 4, num_layers=2, dropout=0.1),
        nn.AlphaDropout(0.1),
        nn.SyncBatchNorm(3),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_that_draw_numbers_or_look_at_their_batch(layer: nn.Module) -> None:
    # Catches: a layer in training mode that draws from the global generator, so that a sample is another each time.
    mode = Mode(nn.Sequential(nn.Linear(4, 4), layer), "cpu")
    with pytest.raises(po.InputError, match=f"training mode, where its {type(layer).__name__}"):
        mode.check()
    layer.eval()
    mode.check()
    still = (nn.MultiheadAttention(4, 2), nn.LSTM(4, 4), nn.Dropout(0.0), nn.GroupNorm(2, 4))
    Mode(nn.Sequential(*still), "cpu").check()
