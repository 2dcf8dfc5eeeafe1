"""Names that have moved to `progspace.optimizers.proposers.demonstrations`."""

from .proposers.demonstrations import bootstrap_pools, label_pools, propose_demonstrations

__all__ = ["bootstrap_pools", "label_pools", "propose_demonstrations"]
