"""What an audit tells people: reports, figures and the lines of the terminal, from plain numbers, tables and pictures.

Nothing here knows how they came about: a report says what ``summary.json`` and the tables beside it say.
"""

from monai_deepssim.report.audit_report import render_report
from monai_deepssim.report.closing import closing_lines
from monai_deepssim.report.encoding import PictureForm, choose_form
from monai_deepssim.report.figures import draw_detection_curve, draw_roc, plot_scores, score_histogram
from monai_deepssim.report.html import data_uri, figure_png, markdown_table, render_page, report_environment
from monai_deepssim.report.pair_pictures import AGREEMENT_GRADIENT, draw_agreement, draw_image, draw_pair
from monai_deepssim.report.sentences import SCORE_NAMES, file_sentences, score_name, side_lines
from monai_deepssim.report.shareable import SHAREABLE_REPORT, render_shareable, shareable_report
from monai_deepssim.report.tables import (
    CONTROLS_COLUMNS,
    HELD_OUT_COLUMNS,
    MATCHES_COLUMNS,
    MEMORIZED_COLUMNS,
    PATIENTS_COLUMNS,
    TABLES,
    Column,
    alignment_columns,
    as_table,
    write_table,
)
from monai_deepssim.report.versions import package_versions

__all__ = [
    "AGREEMENT_GRADIENT",
    "CONTROLS_COLUMNS",
    "HELD_OUT_COLUMNS",
    "MATCHES_COLUMNS",
    "MEMORIZED_COLUMNS",
    "PATIENTS_COLUMNS",
    "SCORE_NAMES",
    "SHAREABLE_REPORT",
    "TABLES",
    "Column",
    "PictureForm",
    "alignment_columns",
    "as_table",
    "choose_form",
    "closing_lines",
    "data_uri",
    "draw_agreement",
    "draw_detection_curve",
    "draw_image",
    "draw_pair",
    "draw_roc",
    "figure_png",
    "file_sentences",
    "markdown_table",
    "package_versions",
    "plot_scores",
    "render_page",
    "render_report",
    "render_shareable",
    "report_environment",
    "score_histogram",
    "score_name",
    "shareable_report",
    "side_lines",
    "write_table",
]
