"""`fedcall report`: what was spent, how good the calls are, and the five lines that sum it up."""

from pathlib import Path

import typer

from fedcall.cli.printing import say, say_block
from fedcall.cli.sites import each_site, for_site
from fedcall.errors import FedcallError

HTML = typer.Option(..., "--html", help="Page to write: self-contained, opens from a file without network.")
JSON = typer.Option(..., "--json", help="The same numbers as JSON.")
STUDY = typer.Option(..., "--study", help="The signed study.")
AUDIT = typer.Option(
    None, "--audit", help="JSON of 'fedcall audit --output': its lower bound is shown beside what epsilon means."
)

report = typer.Typer(
    name="report",
    help="Write reports: the privacy budget of a site or a study, the evaluation of calls, a summary.",
    no_args_is_help=True,
)


def register(app: typer.Typer) -> None:
    """Add the command group."""
    app.add_typer(report)


@report.command("privacy")
def privacy(
    study: Path = STUDY,
    sites: list[str] = typer.Option(
        ..., "--site", help="Name of the site; in a rehearsal, several, and '{site}' in paths is each."
    ),
    keys: Path = typer.Option(..., "--keys", help="The site's key folder; checks the seals of the ledger."),
    ledger: Path = typer.Option(..., "--ledger", help="The site's ledger."),
    rounds: Path = typer.Option(..., "--rounds", help="Folder with one folder per round: claim.json, receipt.json."),
    log: Path | None = typer.Option(
        None,
        "--log",
        help="Log of 'fedcall fetch-log': it tells which updates were left out when their round closed.",
    ),
    html: Path = HTML,
    json: Path = JSON,
    shareable: bool = typer.Option(
        False, "--shareable", help="Leave out the spend over all studies, which depends on who took part in which."
    ),
    audit: Path | None = AUDIT,
    sketches: Path | None = typer.Option(
        None, "--sketches", help="The site's folder of sketches: what relatives found there lost together is told, too."
    ),
    recalibrated: bool = typer.Option(
        False, "--recalibrated", help="The site recalibrates base qualities ('local' in its configuration): say so."
    ),
    own_chemistry: bool = typer.Option(
        False, "--own-chemistry", help="The site fits constants of its own ('local' in its configuration): say so."
    ),
) -> None:
    """Write a site's privacy-budget report: what its patients have lost, and whether this may go on.

    Claims and receipts are verified; epsilons are computed again from the ledger.

    Example: fedcall report privacy --study results/demo/study.json --site north --keys private/north/keys
    --ledger private/north/ledger.sqlite --rounds results/demo/north/rounds --html privacy.html --json privacy.json
    """
    from fedcall.keys import read_secret
    from fedcall.reporting.privacy.rounds import closed_early, read_rounds
    from fedcall.study.log_reading import read_log
    from fedcall.study.terms import read_study

    # Cheap mistakes are told before plots and accountants are imported.
    agreed, found = read_study(study), {}
    for site, (own_keys, own_rounds) in each_site(sites, keys, rounds):
        lines = read_log(for_site(log, site)) if log else ()
        records = read_rounds(agreed, site, own_rounds, lines if log else None)
        found[site] = records, read_secret(own_keys), closed_early(lines)

    from fedcall.reporting.base.pages import write_report
    from fedcall.reporting.privacy.audit import read_audit
    from fedcall.reporting.privacy.checklist import KeptAtSite
    from fedcall.reporting.privacy.ledger_facts import read_ledger
    from fedcall.reporting.privacy.site_report import privacy_figures, privacy_report
    from fedcall.workflow.identity import known_families

    audited = read_audit(audit, agreed) if audit else None
    kept = KeptAtSite(recalibrated, own_chemistry)
    for site, (own_ledger, own_html, own_json) in each_site(sites, ledger, html, json):
        records, secret, closed = found[site]
        families = known_families(for_site(sketches, site), agreed.name) if sketches else ()
        facts = read_ledger(own_ledger, secret, agreed, site, families)
        document = privacy_report(agreed, site, records, facts, shareable, audited, kept, closed)
        write_report(document, "privacy.html", own_html, own_json, privacy_figures(document))
        say(f"{site}: {document.spent.sentence}" if len(sites) > 1 else document.spent.sentence)


@report.command("privacy-study")
def privacy_study(
    study: Path = STUDY,
    html: Path = HTML,
    json: Path = JSON,
    audit: Path | None = AUDIT,
    sites: list[Path] = typer.Argument(..., metavar="SITE_PRIVACY_JSON...", help="The sites' privacy reports (JSON)."),
) -> None:
    """Write the privacy-budget report of a study from the reports of its sites.

    Only what concerns this study is used; what a site's patients lost elsewhere stays in the site's own report.

    Example: fedcall report privacy-study --study results/demo/study.json --html privacy.html --json privacy.json
    results/demo/*/privacy.json
    """
    from fedcall.reporting.base.pages import write_report
    from fedcall.reporting.privacy.audit import read_audit
    from fedcall.reporting.privacy.study_report import read_privacy_report, study_privacy_figures, study_privacy_report
    from fedcall.study.terms import read_study

    agreed = read_study(study)
    audited = read_audit(audit, agreed) if audit else None
    document = study_privacy_report(agreed, [read_privacy_report(path) for path in sites], audited)
    write_report(document, "privacy_study.html", html, json, study_privacy_figures(document))
    say(document.sentence)


@report.command("evaluation")
def evaluation(
    study: Path = STUDY,
    html: Path = HTML,
    json: Path = JSON,
    concordances: list[Path] = typer.Argument(
        ..., metavar="CONCORDANCE_JSON...", help="Files …/SITE/concordance/CALLER/PATIENT.json; the path names them."
    ),
    errors: list[Path] = typer.Option(
        [], "--errors", help="File …/SITE/errors/PATIENT.json of 'fedcall errors', to be drawn; may be given often."
    ),
    unseen: list[Path] = typer.Option(
        [],
        "--unseen",
        help="File …/SITE/unseen/CALLER/PATIENT.json: a public person, scored only where nobody trained; may be given"
        " often. The recommendation rests on them.",
    ),
    verdict: Path | None = typer.Option(
        None, "--verdict", help="Verdict of 'fedcall fetch-verdict'; the recommendation then rests on it."
    ),
    sheet: list[Path] = typer.Option(
        [],
        "--sheet",
        help="Sheet of patients, or of public people: which rows are one person (column 'person'), and who is trained"
        " on; may be given often. Left out, every patient is a person whom nobody trained on.",
    ),
    agreement: list[Path] = typer.Option(
        [],
        "--agreement",
        help="File …/SITE/agreement/PATIENT.json of 'fedcall errors --agreement': where callers disagree; may be given"
        " often.",
    ),
    benchmarks: Path | None = typer.Option(
        None, "--benchmarks", help="Snakemake's folder of benchmark files: what each caller cost."
    ),
    keys: Path | None = typer.Option(
        None, "--keys", help="Folder of this site's keys, with which the report names a digest of its inputs."
    ),
    initial: Path | None = typer.Option(None, "--initial", help="First model, for --recommended."),
    final: Path | None = typer.Option(None, "--final", help="Last model, for --recommended."),
    recommended: Path | None = typer.Option(
        None,
        "--recommended",
        help="Model to write: a copy of the last one if a gain was seen where nobody trained, else of the first.",
    ),
) -> None:
    """Write the evaluation of calls: final model beside public-only, likelihood and other callers, with intervals.

    The figures are computed from patients' data without noise: at a hospital they stay at the hospital.

    Example: fedcall report evaluation --study results/demo/study.json --html evaluation.html --json evaluation.json
    results/demo/*/concordance/*/*.json
    """
    if recommended is not None and (initial is None or final is None):
        raise FedcallError("--recommended: --initial and --final, which it is a copy of, are needed")

    from fedcall.documents import read_signed
    from fedcall.keys import read_secret
    from fedcall.reporting.base.pages import write_report
    from fedcall.reporting.evaluation.callers import Beside
    from fedcall.reporting.evaluation.inputs import read_agreements, read_errors, read_results, results_digest
    from fedcall.reporting.evaluation.people import read_people
    from fedcall.reporting.evaluation.recommendation import Models, keep_recommended
    from fedcall.reporting.evaluation.report import evaluation_figures, evaluation_report
    from fedcall.study.judgement import Verdict
    from fedcall.study.terms import read_study

    people = read_people(sheet)
    results = read_results(concordances, people=people)
    there = read_results(unseen, "unseen", people) if unseen else []
    inputs = results_digest([*results, *there], read_secret(keys)) if keys else None
    drawn = read_errors(errors) if errors else None
    agreed = read_study(study)
    judged = read_signed(verdict, Verdict, str(agreed.coordinator)) if verdict else None
    beside = Beside(read_agreements(agreement), benchmarks)
    document = evaluation_report(agreed, results, drawn, inputs, there, judged, beside)
    if recommended is not None and initial is not None and final is not None:
        keep_recommended(document.gate, Models(initial, final), recommended)
    write_report(document, "evaluation.html", html, json, evaluation_figures(document))
    say(document.sentence)


@report.command("utility")
def utility(
    html: Path = HTML,
    json: Path = JSON,
    chosen: str | None = typer.Option(
        None, "--chosen", help="Name of the study whose own noise the first sentence is about; else the first."
    ),
    points: list[Path] = typer.Argument(..., metavar="POINT_JSON...", help="Points of 'fedcall utility --output'."),
) -> None:
    """Write what privacy costs in accuracy: F1 against epsilon, rare variants apart, from points of 'fedcall utility'.

    Points of one study make a line; points that differ in their seed alone are pooled, and make the intervals honest.

    Example: fedcall report utility --html utility.html --json utility.json results/demo/utility/*.json
    """
    from fedcall.reporting.base.pages import write_report
    from fedcall.reporting.utility.report import read_points, utility_figures, utility_report

    document = utility_report(read_points(points), chosen)
    write_report(document, "utility.html", html, json, utility_figures(document))
    say(document.sentence)


@report.command("summary")
def summary(
    evaluation: Path = typer.Option(..., "--evaluation", help="JSON of 'fedcall report evaluation'."),
    privacy: Path = typer.Option(..., "--privacy", help="JSON of 'fedcall report privacy-study'."),
) -> None:
    """Print five lines: sites, rounds, privacy loss, accuracy, refusals.

    Example: fedcall report summary --evaluation results/demo/evaluation.json --privacy results/demo/privacy.json
    """
    from fedcall.reporting.summary import summary_lines

    for line in summary_lines(evaluation, privacy):
        say(line)


@report.command("schema")
def schema(
    name: str = typer.Argument(
        ..., metavar="REPORT", help="privacy, privacy-study, evaluation, comparison, dashboard or utility."
    ),
) -> None:
    """Print the JSON schema of a report.

    Example: fedcall report schema privacy > privacy.schema.json
    """
    import json

    from fedcall.reporting.schemas import REPORTS, report_schema

    if name not in REPORTS:
        raise FedcallError(f"no report is called '{name}' (allowed: {', '.join(REPORTS)})")
    say_block(json.dumps(report_schema(name), indent=2, ensure_ascii=False))


@report.command("tables")
def tables(
    reports: list[Path] = typer.Argument(..., metavar="REPORT_JSON...", help="JSON of reports, of any kind."),
) -> None:
    """Write every table of reports as tab-separated files beside their JSON, for spreadsheets and notebooks.

    In Python, `fedcall.tables` gives the same tables as pandas DataFrames.

    Example: fedcall report tables results/demo/evaluation.json results/demo/north/privacy.json
    """
    from fedcall.tables import write_tables

    for path in reports:
        for written in write_tables(path):
            say(f"{written}")
