"""vaekit: an executable paper collection on variational autoencoders."""

from vaekit import data, losses, metrics, models
from vaekit.fleet import Budget, Fleet, FleetMember, Trained, grid, train_fleet

__all__ = ["Budget", "Fleet", "FleetMember", "Trained", "data", "grid", "losses", "metrics", "models", "train_fleet"]
__version__ = "0.1.0"
