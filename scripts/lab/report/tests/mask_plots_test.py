"""What is drawn by sparsity has a name in the legend, whichever capture has it."""

from lab.report import mask_plots, style


class TwoCaptures:
    """Of the second capture alone there are masks of the second variant."""

    region, values_of = "8x16", {"a": (("one", 0.5), ("two", 0.7)), "b": (("two", 0.4),)}

    def sparsities(self, region=None, variant=None):
        return [0.5, 0.9]

    def values(self, mask, metric, heads):
        return [value for capture, value in self.values_of[mask[0]] if capture in heads]


def legend(monkeypatch, lines):
    monkeypatch.setattr(mask_plots, "groups", lambda quality: [("first", {"one"}), ("second", {"two"})])
    monkeypatch.setattr(
        style, "save", lambda figure, folder, stem: [text.get_text() for text in figure.legends[0].texts]
    )
    return mask_plots.draw_by_sparsity(TwoCaptures(), "attention_recall", lines, 2, None, "x")


def test_every_line_is_named_in_the_order_of_the_lines(monkeypatch):
    lines = [("b", style.RULE_STYLES["row"], "of b", False), ("a", style.RULE_STYLES["softmax"], "of a", False)]
    assert legend(monkeypatch, lines) == ["of b", "of a"]
    monkeypatch.setattr(TwoCaptures, "values_of", {"a": (("one", 0.5),), "b": ()})
    assert legend(monkeypatch, lines) == ["of a"]  # what nobody has is not named
