"""airgap: carry wheels, models, containers and files across an air gap in one signed bundle."""

__version__ = "0.1.0"
