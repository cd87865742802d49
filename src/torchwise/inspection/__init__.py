"""What a checkpoint holds: as lines of text, and as JSON."""

from torchwise.inspection.json_form import describe_as_json
from torchwise.inspection.text import describe

__all__ = ["describe", "describe_as_json"]
