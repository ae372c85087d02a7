"""The torch optimizer: Kronecker-factored quasi-Newton training of linear and convolution
layers.
"""

from kfqn_ref.optim.curvature import Counts, Curvature
from kfqn_ref.optim.kinds import register_layer
from kfqn_ref.optim.optimizer import KFQN
from kfqn_ref.optim.presets import PRESETS

__all__ = ["KFQN", "PRESETS", "Counts", "Curvature", "register_layer"]
