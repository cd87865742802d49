"""A stateful face that follows from what torch's parameter groups hold."""

from typing import Any, ClassVar

from torchwise.optim.torch_optimizer import TorchOptimizer
from torchwise.optimizers.group_format import GroupFormat
from torchwise.state_dict.leaves import initial_entry
from torchwise.transforms.chain import Chain


class FormatOptimizer(TorchOptimizer):
    """An optimizer that its `GroupFormat` describes; a subclass adds the signature.

    Attributes:
        group_format: checks, chain, defaults and memory, the same that state dicts are read with.
    """

    group_format: ClassVar[GroupFormat]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._added_later = cls.group_format.added_later

    def __init__(self, params: Any, **hyperparameters: Any) -> None:
        names = self.group_format.defaults  # torch's order in every group
        super().__init__(params, {name: hyperparameters[name] for name in names})
        if self.group_format.starts_with_state:
            for group in self.param_groups:
                transforms = self._recipe(group).chain.transforms
                for parameter in group["params"]:
                    self.state[parameter] = initial_entry(transforms, parameter.data)

    def _check(self, group: dict[str, Any]) -> None:
        self.group_format.check(**group)

    def _build(self, group: dict[str, Any]) -> Chain:
        return self.group_format.build(**group)

    def _memory(self) -> Chain:
        return self.group_format.memory
