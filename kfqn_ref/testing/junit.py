"""A report as JUnit XML, which test servers read."""

from xml.etree import ElementTree

from kfqn_ref.testing.report import Report, explain

SKIPPED = ("not provided", "floats only")


def to_junit(report: Report) -> str:
    """Write one test case a law; one whose functions are missing or not exact is skipped."""
    counts = report.counts()
    numbers = {"tests": len(report.results), "failures": counts["failed"]}
    numbers |= {"skipped": sum(counts.get(outcome, 0) for outcome in SKIPPED), "errors": 0}
    attributes = {key: str(value) for key, value in numbers.items()}
    suite = ElementTree.Element("testsuite", {"name": f"kfqn check {report.label}", **attributes})
    for result in report.results:
        names = {"classname": result.check.chapter, "name": result.check.name}
        case = ElementTree.SubElement(suite, "testcase", names)
        if result.outcome in SKIPPED:
            ElementTree.SubElement(case, "skipped", {"message": result.note or result.outcome})
        if result.failure is not None:
            failure = ElementTree.SubElement(case, "failure", {"message": result.check.words})
            failure.text = "\n".join(f"{label:<14} {text}" for label, text in explain(result))
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"
