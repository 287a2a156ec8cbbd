"""What an audit looks at: each module takes the data set under audit and returns one section of findings."""

from cxrlab.checks.base import Case, Finding, Picture, Section, Table, Verdict

__all__ = ["Case", "Finding", "Picture", "Section", "Table", "Verdict"]
