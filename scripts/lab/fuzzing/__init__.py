"""Damaged input by the thousand, against the real program: whatever a file holds, it is accepted or refused in one line.

    PYTHONPATH=scripts python3 -m lab.fuzzing dumps --count 2000 --seed 1 --draftbench build/release/draftbench --out fuzz.jsonl
    PYTHONPATH=scripts python3 -m lab.fuzzing dumps --seed 1 --only 1234 --keep mutant/ --draftbench build/release/draftbench

    PYTHONPATH=scripts python3 -m lab.fuzzing records --count 10000 --seed 1 --draftbench build/release/draftbench

`runner` makes cases, runs the program on them with limits, judges what it does and sums up; a subject (`dumps`, `records`) says
what the cases are. A case depends on the seed and its index alone, so any can be made again.
"""
