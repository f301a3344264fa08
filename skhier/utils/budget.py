"""Tuning constants: what may change without changing what is computed.

Only how long it takes, how exact it is or how much memory it needs depends on them. One
:class:`Budget` travels from the estimator to whatever spends; a module that a compiled program or
a fact of arithmetic binds to a number keeps it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from skhier.utils.answer_budget import MemoryBudget, NoiseBudget, RuleBudget, ScoreBudget
from skhier.utils.data_budget import DataBudget, KernelBudget, RowBudget
from skhier.utils.sampling_budget import (
    ChainBudget,
    EngineBudget,
    ImportanceBudget,
    QuadratureBudget,
    SearchBudget,
)

__all__ = [
    "USUAL",
    "Budget",
    "ChainBudget",
    "DataBudget",
    "EngineBudget",
    "ImportanceBudget",
    "KernelBudget",
    "MemoryBudget",
    "NoiseBudget",
    "QuadratureBudget",
    "RowBudget",
    "RuleBudget",
    "ScoreBudget",
    "SearchBudget",
]


@dataclass(frozen=True)
class Budget:
    """All tuning constants, by what they are spent on."""

    data: DataBudget = field(default_factory=DataBudget)
    rows: RowBudget = field(default_factory=RowBudget)
    engine: EngineBudget = field(default_factory=EngineBudget)
    search: SearchBudget = field(default_factory=SearchBudget)
    importance: ImportanceBudget = field(default_factory=ImportanceBudget)
    quadrature: QuadratureBudget = field(default_factory=QuadratureBudget)
    chains: ChainBudget = field(default_factory=ChainBudget)
    kernels: KernelBudget = field(default_factory=KernelBudget)
    memory: MemoryBudget = field(default_factory=MemoryBudget)
    rule: RuleBudget = field(default_factory=RuleBudget)
    noises: NoiseBudget = field(default_factory=NoiseBudget)
    scores: ScoreBudget = field(default_factory=ScoreBudget)


USUAL = Budget()
