"""Text out of records is shown as it stands and is no markup, wherever it is put together with other text."""

import unittest

from lab.report.foreign import cell, inert, inert_value, markdown, math_free, plain


class Foreign(unittest.TestCase):
    def test_usual_names_are_untouched(self):
        for text in (
            "photodit_512p.h5",
            "NVIDIA H100 80GB HBM3",
            "8x16",
            "layer0+layer1",
            "not here: (a, b)",
            "q [heads, dim]; k",
            "\u00e9\u03b4\u0436",
            "no module named flash_attn.cute",
            "",
            "2030-01-01T00:00:00Z",
            "it's 50%",
        ):
            self.assertEqual(inert(text), text)

    def test_markdown_and_html_are_escaped(self):
        for text, wanted in (
            ("<script>&", "&lt;script&gt;&amp;"),
            ("a|b", "a\\|b"),
            ("`x` *y* ~z~", "\\`x\\` \\*y\\* \\~z\\~"),
            ("__x__", "\\_\\_x\\_\\_"),
            ("[x](http://y)", "[x\\](http://y)"),
            ("$x$", "\\$x\\$"),
            ("a\\b", "a\\\\b"),
            ("a\n# b", "a\\\\n# b"),
        ):
            self.assertEqual(markdown(f"| {inert(text)} |"), f"| {wanted} |")
        self.assertEqual(markdown(inert("x]") + inert("(y)")), "x\\](y)")  # no link out of two texts
        self.assertEqual(markdown("**own** | `text` $x$"), "**own** | `text` $x$")

    def test_a_csv_cell_is_the_text_and_no_formula(self):
        for text in ("<a>|`b`*", "x=1", "$5", "a_"):
            self.assertEqual(cell(inert(text)), text)
        for text in ("=1+1", "+1", "-1", "@x"):
            self.assertEqual(cell(inert(text)), "'" + text)
        self.assertEqual(cell("-0.5 [1, 2]"), "-0.5 [1, 2]")  # a number of our own

    def test_a_dollar_sign_opens_no_formula_in_a_plot(self):
        self.assertEqual(math_free(inert("$\\frac{1}{0}$") + " $x^2$"), "\\$\\frac{1}{0}\\$ $x^2$")

    def test_what_cannot_be_seen_is_spelled_out(self):
        for text, wanted in (
            ("a\nb\tc", "a\\nb\\tc"),
            ("\x00\x1b[31m", "\\x00\\x1b[31m"),
            ("\u202e\u2028", "\\u202e\\u2028"),
            ("\ufeff", "\\ufeff"),
            ("\U000f0041", "\\U000f0041"),
        ):
            self.assertEqual(plain(inert(text)), wanted)

    def test_every_ascii_text_comes_back(self):
        text = "".join(map(chr, range(32, 127)))
        self.assertEqual(plain(inert(text)), text)
        self.assertEqual(plain(inert(text[::-1])), text[::-1])

    def test_keys_and_lists_are_text_as_well(self):
        self.assertEqual(inert_value({"a|": ["<", 1, None]}), {inert("a|"): [inert("<"), 1, None]})
        self.assertNotEqual(inert("a|"), "a|")


if __name__ == "__main__":
    unittest.main()
