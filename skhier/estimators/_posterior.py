"""Where a fit saved by skhier 0.1.0 looks for its classes: it cannot be loaded."""

from skhier import __version__

raise ImportError(
    f"This file was saved by skhier 0.1.0, and this is skhier {__version__}, which keeps a fit in "
    "another form. Load it with skhier 0.1.0, or fit again."
)
