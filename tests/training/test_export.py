"""What is exported: the mean with an earlier model, where one is asked for."""

from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

from training.export import average_with  # noqa: E402
from training.models import load_networks  # noqa: E402
from training.paths import EXPORT  # noqa: E402


def test_the_mean_with_an_earlier_export_lies_halfway(tmp_path):
    """The earlier one has every weight of the shipped one and one more; the mean, of each, half a one more."""
    networks = SimpleNamespace(**dict(zip(("unet", "text_encoder"), load_networks(EXPORT), strict=True)))
    shipped = {n: {k: v.clone() for k, v in net.state_dict().items()} for n, net in vars(networks).items()}
    for name, network in vars(networks).items():
        for weight in network.parameters():
            weight.data += 1.0
        network.save_pretrained(tmp_path / name)
        network.load_state_dict(shipped[name])
    average_with(networks, tmp_path)
    for name, network in vars(networks).items():
        for key, weight in network.named_parameters():
            torch.testing.assert_close(weight.data, shipped[name][key] + 0.5, rtol=0, atol=1e-5)
