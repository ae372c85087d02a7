"""The two engines that train a network, behind one interface: the NumPy reference and torch."""

from kfqn_ref.experiments.data import Split
from kfqn_ref.experiments.train.engine import Engine
from kfqn_ref.experiments.train.reference_engine import ReferenceEngine
from kfqn_ref.experiments.train.settings import Settings
from kfqn_ref.experiments.train.torch_engine import TorchEngine
from kfqn_ref.network import Network


def build_engine(settings: Settings, network: Network, train: Split) -> Engine:
    """The engine that the settings name, at the initial weights.

    Raises:
        ValueError: the optimizer refuses a hyper-parameter or the network.
    """
    if settings.engine == "torch":
        return TorchEngine(settings, network, train)
    return ReferenceEngine(settings, network, train)
