"""One strategy a node, costs of strategies and of pairs of them on edges: the least sum, its bound, its proof.

Knows nothing of layers or engines. Exact by elimination where the graph is nearly a tree (chains, residual nets);
elsewhere a dual bound in integers, and an integer programme with edge marginals on what the bound leaves open.
"""

from compiler.partition.pairwise.problem import FORBIDDEN, Answer, Edge, Pairwise
from compiler.partition.pairwise.solve import Effort, solve

__all__ = ["FORBIDDEN", "Answer", "Edge", "Effort", "Pairwise", "solve"]
