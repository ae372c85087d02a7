"""A report as one page that needs nothing else: no script, no font, no network."""

from jinja2 import Environment, PackageLoader, StrictUndefined

from kfqn_ref.testing.report import Report, explain


def to_html(report: Report) -> str:
    """Render the template ``report.html`` for a report."""
    environment = Environment(
        loader=PackageLoader("kfqn_ref.testing", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(report=report, explain=explain)
