"""The paper's printed numbers, from data/paper/*.csv."""

import csv
import os


class Paper:
    def __init__(self, folder):
        self.folder = folder
        self.claims = {row["id"]: row for row in self.table("claims")}

    def table(self, name):
        path = os.path.join(self.folder, name + ".csv")
        with open(path, newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream))

    def value(self, claim):
        """The number of a claim of claims.csv."""
        return float(self.claims[claim]["value"])

    def source(self, claim):
        return self.claims[claim]["source"]
