"""The models: their shapes on both image sizes, and the same function in torch."""

import numpy as np
import pytest
import torch

from kfqn_ref.bridge import build
from kfqn_ref.experiments.data import Split
from kfqn_ref.experiments.models import MODELS, batch_of, build_network, classifies
from kfqn_ref.layers import Conv2d


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("side", [8, 28])
def test_a_model_maps_images_to_what_its_loss_takes_and_torch_agrees(model, side):
    rng = np.random.default_rng(0)
    network = build_network(model, (side, side))
    params = network.init(rng)
    batch = batch_of(
        network, Split(rng.random((3, 1, side, side)), np.array([0, 3, 9])), slice(None)
    )
    outputs = network.predict(params, batch.x)
    assert outputs.shape == (3, 10 if classifies(network) else side**2)
    assert np.isfinite(network.value(params, *batch))
    twin = build(network, params)(torch.from_numpy(batch.x)).detach().numpy()
    np.testing.assert_allclose(twin, outputs, rtol=0, atol=1e-12 * np.abs(outputs).max())


def test_the_cnn_of_fashion_mnist_is_the_documented_one():
    convolutions = [
        layer for layer in build_network("cnn", (28, 28)).layers if isinstance(layer, Conv2d)
    ]
    assert [(c.in_channels, c.out_channels) for c in convolutions] == [(1, 16), (16, 32)]
    assert {np.ravel(c.kernel_size)[0] for c in convolutions} == {5}


def test_an_autoencoder_is_asked_for_its_own_pixels():
    x = np.random.default_rng(1).random((4, 1, 8, 8))
    batch = batch_of(build_network("autoencoder", (8, 8)), Split(x, np.arange(4)), np.array([2, 0]))
    np.testing.assert_array_equal(batch.y, x[[2, 0]].reshape(2, 64))


def test_an_unknown_model_is_refused():
    with pytest.raises(ValueError, match="one of cnn, mlp, autoencoder, got 'vit'"):
        build_network("vit", (8, 8))
