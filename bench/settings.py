"""Settings: what the command line asked for."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Settings:
    """What every group is given."""

    rounds: int
    quick: bool
    threads: int  # 0: each library's own default
    clock: str  # "cpu" (of this process, all threads) or "wall"
    environment: dict[str, str] = field(repr=False)  # before threads were limited
    baseline: str = "show"  # of the group "counts": show the ratio, "check" it, or "save" a new one
    pythons: dict[str, str] = field(default_factory=dict)  # interpreters of peers that are installed elsewhere
