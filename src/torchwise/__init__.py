"""torch.optim's exact semantics as pure JAX gradient transforms."""

__version__ = "0.1.0"

# The names are those of `public.py`, which is imported when the first of them is used. JAX takes a
# second to import: the command line looks out for signals first, and often does without JAX.

TYPE_CHECKING = False
if TYPE_CHECKING:
    from torchwise.public import *  # noqa: F403
    from torchwise.public import __all__ as __all__


def __getattr__(name: str) -> object:
    import importlib
    import importlib.util

    if name.startswith("__") and name != "__all__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name != "__all__" and importlib.util.find_spec(f"{__name__}.{name}"):
        return importlib.import_module(f"{__name__}.{name}")
    public = importlib.import_module(f"{__name__}.public")
    if name != "__all__" and name not in public.__all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals().setdefault(name, getattr(public, name))


def __dir__() -> list[str]:
    import torchwise.public

    return torchwise.public.__all__
