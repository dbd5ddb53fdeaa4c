"""The report's sections, each a module (query, rule of the verdict, picture) and a template (words), in the order of the
paper; then what it does not look at. A new section is a new NAME.py, words/NAME.md.j2 and a name in PARTS."""

from importlib import import_module

PARTS = [
    import_module(f"{__name__}.{name}")
    for name in (
        "theorem_3_3",
        "theorem_3_5",
        "section_3_1",
        "section_3_3",
        "table_1",
        "table_1_videos",
        "systems_videos",
        "policies",
        "remainder",
        "section_4_1",
        "table_1_flops",
        "table_2",
        "table_2_videos",
        "table_3",
        "table_4",
        "table_4_videos",
        "table_5",
        "table_5_videos",
        "figure_1",
        "figure_4",
        "section_4_2",
        "figure_4_pipelines",
        "section_4_2_pipelines",
        "video_times",
        "figure_5",
        "figure_6",
        "truth_videos",
        "rules_videos",
        "errors_in_videos",
        "every_head",
        "diffuse_heads",
        "recall_and_psnr",
        "networks",
        "balance",
        "sustained",
        "peers",
    )
]
