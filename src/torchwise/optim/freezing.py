"""Parameters that an optimizer leaves alone for a while, chosen by patterns on their names."""

from collections.abc import Sequence

from torchwise.groups.patterns import matched, patterns_of, refuse_unmatched
from torchwise.optim.gradients import replace_grads
from torchwise.optim.grouped import Grouped
from torchwise.optim.groups import names_of
from torchwise.optim.parameter import Parameter


class Freezing(Grouped):
    """What can leave parameters alone, and take them up again."""

    def freeze(self, *patterns: str) -> list[str]:
        """Leave parameters alone, in the middle of a run: no gradient, no step, the state stays.

        It does what `parameter.requires_grad = False` does for each of them, and drops the
        gradients that they have. A step without them is another program, compiled once.

        Args:
            *patterns: on names, as `"backbone.*"`.

        Returns:
            The names that match.

        Raises:
            TypeError: for anything but strings.
            ValueError: for a pattern that matches nothing, and parameters without names.

        Examples:
            >>> import jax.numpy as jnp
            >>> from torchwise import optim
            >>> optimizer = optim.SGD({"body": jnp.ones(2), "head": jnp.ones(2)}, lr=0.5)
            >>> optimizer.freeze("body*")
            ['body']
            >>> _ = optimizer.train_step(lambda params: jnp.sum(params["body"] * params["head"]))
            >>> optimizer.params["body"], optimizer.params["head"]
            (Array([1., 1.], dtype=float32), Array([0.5, 0.5], dtype=float32))
        """
        found = self._matching("freeze()", patterns)
        for parameter in found:
            parameter.requires_grad = False
        replace_grads(dict.fromkeys(found))
        return names_of(found)

    def unfreeze(self, *patterns: str) -> list[str]:
        """Take up parameters again that `freeze`, or `requires_grad`, has left alone.

        Args:
            *patterns: as for `freeze`.

        Returns:
            The names that match.

        Raises:
            TypeError, ValueError: as for `freeze`.
        """
        found = self._matching("unfreeze()", patterns)
        for parameter in found:
            parameter.requires_grad = True
        return names_of(found)

    # Inside.

    def _matching(self, call: str, patterns: Sequence[str]) -> list[Parameter]:
        """Return the parameters whose names match."""
        if not all(isinstance(one, str) for one in patterns):
            raise TypeError(
                f"{call} takes each pattern as an argument of its own, as in "
                f"{call[:-2]}('embed.*', 'head.*'), but got {', '.join(map(repr, patterns))}"
            )
        given, parameters = patterns_of(patterns, call), self._parameters()
        names = names_of(parameters)
        refuse_unmatched(given, names, call)
        return [one for one, name in zip(parameters, names) if matched(name, given) is not None]
