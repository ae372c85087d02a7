"""The reference and the torch optimizer obey every law, and the reference the error contract
too.
"""

from collections.abc import Callable

from hypothesis import settings

from kfqn_ref.testing import Effort
from kfqn_ref.testing.adapters.reference import REFERENCE
from kfqn_ref.testing.adapters.torch_kfqn import TorchKFQN, TorchKFQN32
from kfqn_ref.testing.parametrize import parametrize_with_checks

EFFORT = Effort(settings.default.max_examples)


@parametrize_with_checks(REFERENCE, errors=True, effort=EFFORT)
def test_reference(check: Callable[[], None]) -> None:
    check()


@parametrize_with_checks(TorchKFQN(), effort=EFFORT)
def test_torch_in_double_precision(check: Callable[[], None]) -> None:
    check()


@parametrize_with_checks(TorchKFQN32(), effort=EFFORT)
def test_torch_kernels_in_single_precision(check: Callable[[], None]) -> None:
    check()
