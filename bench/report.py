"""Tables: what a group measured, as text."""

from dataclasses import dataclass, field


@dataclass
class Table:
    """Rows of measurements.

    Attributes
    ----------
    title : str
    columns : list of str
        Units belong to the names.
    rows : list of list
        Strings, numbers, or None for what was not measured.
    notes : list of str
        Printed below the table.
    failures : list of str
        What must not be: wrong answers. They make the command fail.
    details : list of dict
        More of the measurements, for the JSON file only.
    """

    title: str
    columns: list
    rows: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    failures: list = field(default_factory=list)
    details: list = field(default_factory=list)


def cell(value):
    """Return a value as text: numbers with three digits."""
    if value is None:
        return "-"
    if isinstance(value, float):
        digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
        return f"{value:.{digits}f}"
    return str(value)


def verdict(ratio, target):
    """Return a ratio with the least that it should be and whether it is, as text; None stays None."""
    if ratio is None:
        return None
    return cell(ratio) if target is None else f"{ratio:.2f} ({target:g}: {'met' if ratio >= target else 'missed'})"


def format_table(table):
    """Return the table in Markdown."""
    rows = [table.columns] + [[cell(value) for value in row] for row in table.rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(table.columns))]
    numeric = [any(isinstance(row[i], int | float) for row in table.rows) for i in range(len(widths))]

    def line(row):
        cells = [
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(row, widths, numeric, strict=True)
        ]
        return f"| {' | '.join(cells)} |"

    rule = ["-" * (width - 1) + (":" if right else "-") for width, right in zip(widths, numeric, strict=True)]
    lines = [table.title, "", line(rows[0]), line(rule), *map(line, rows[1:])]
    if table.notes:
        lines += ["", *table.notes]
    return "\n".join(lines)


def format_machine(about):
    """Return the description of the machine as text."""
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    ceilings = about["ceilings"]
    return "\n".join(
        [
            f"{about['cpu']}, {about['cores']} cores, {about['system']}",
            f"kernel table {about['instruction_set']}; {versions}; BLAS {about['blas']}",
            f"threads: {about['threads']}; {about['rounds']} rounds of {about['clock']} time",
            f"load {about['load']}; dgemm {ceilings['dgemm_gflops']} GFLOP/s, copy {ceilings['copy_gb_per_s']} GB/s",
        ]
    )
