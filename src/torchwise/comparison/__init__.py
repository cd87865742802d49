"""How far two checkpoints are apart, tensor by tensor."""

from torchwise.comparison.json_form import difference_as_json
from torchwise.comparison.limits import Limits
from torchwise.comparison.report import Report, compare
from torchwise.comparison.text import describe_difference

__all__ = ["Limits", "Report", "compare", "describe_difference", "difference_as_json"]
