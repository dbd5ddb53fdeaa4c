"""The Python programs of draftbench: `PYTHONPATH=scripts python3 -m lab.NAME`. scripts/README.md has the packages and what
each may import."""
