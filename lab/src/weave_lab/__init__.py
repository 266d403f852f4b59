"""A multi-node weave cluster on one machine, without Kubernetes."""

from weave_lab.errors import CommandFailed, LabError
from weave_lab.lab import Lab, LabSpec
from weave_lab.node import Node
from weave_lab.pods import Pod

__all__ = ["CommandFailed", "Lab", "LabError", "LabSpec", "Node", "Pod"]
