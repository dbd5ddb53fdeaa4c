"""What of a table stands in the report, and that what does not is linked."""

import re

import pytest

from lab.report.finding import CONFIRMED, NOT_TESTABLE, Finding, Table, links_to_more, markdown_finding, markdown_table

ROWS = [(rule, share) for share in (0.5, 0.8, 0.9) for rule in ("logits", "row", "released", "softmax")]


def table(rows=tuple(ROWS), **more):
    return Table("rules", "Rules.", ["rule", "sparsity"], list(rows), **more)


def test_a_short_table_is_there_as_it_is():
    assert table(ROWS[:8]).of_report() == ROWS[:8]


def test_of_a_long_one_the_papers_sparsity():
    assert table().of_report() == ROWS[8:]
    assert table(ROWS[:-4] + ROWS[:-4]).of_report() == ROWS[4:8] * 2  # 80% is the nearest there


@pytest.mark.parametrize("odd", [None, "released", float("nan")])
def test_where_a_sparsity_is_no_number_the_first_rows(odd):
    rows = [*ROWS[:3], ("row", odd), *ROWS[3:]]
    assert table(rows).of_report() == rows[:8]


def test_rows_that_carry_the_claim_come_first_of_all():
    found = table(carries=lambda row: row["rule"] == "row").of_report()
    assert found == [("row", 0.5), ("row", 0.8), ("row", 0.9)]
    assert table(carries=lambda row: row["rule"] == "nobody's").of_report() == ROWS[8:]  # a table is never empty
    assert table(carries=lambda row: True, shown=0).of_report() == []
    assert table([]).of_report() == []


def test_what_is_left_out_is_counted_and_linked():
    found = "\n".join(markdown_table(table(columns_shown=1), "site/index.html"))
    assert found.count("\n| ") == 5 and "8 more rows and 1 more column there" in found
    assert "[on the site](site/index.html#table_rules)" in found
    assert "site" not in "\n".join(markdown_table(table(columns_shown=1)))
    whole = "\n".join(markdown_table(table(ROWS[:8]), "site/index.html"))
    assert "more" not in whole and "site" not in whole


def finding():
    pictures = [("first", "First."), ("second", "Second.")]
    tables = [table(), Table("calls", "Calls.", ["call"], [("a",)], shown=0)]
    return Finding("part", "Part", "a", CONFIRMED, "Rule.", "b", [], tables, pictures)


def test_tables_and_pictures_that_are_not_there_are_linked():
    text = "\n".join(markdown_finding(finding(), "site/index.html"))
    assert "[calls](site/index.html#table_calls)" in text and "| a |" not in text
    assert "](site/index.html#part)" in text
    assert re.findall(r"!\[[^]]*\]\(plots/(\w+)\.png\)", text) == ["first"] and "[second](plots/second.png)" in text
    assert "[calls](tables/calls.csv)" in links_to_more(finding())
    assert links_to_more(Finding("part", "Part", "a", CONFIRMED, "Rule.", "b")) == ""
    assert (
        links_to_more(Finding("part", "Part", "a", NOT_TESTABLE, "Rule.", "b"), "site/index.html") == ""
    )  # nothing there
    assert "](site/index.html#part)" in links_to_more(
        Finding("part", "Part", "a", CONFIRMED, "Rule.", "b"), "site/index.html"
    )
