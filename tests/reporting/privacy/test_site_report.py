"""The privacy report of a site: numbers, light, checklist, and what must not stand in it."""

import json
import math
import sqlite3
from collections import Counter
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist

import pytest

from fedcall.documents import write_signed
from fedcall.errors import FedcallError
from fedcall.keys import read_secret, read_signing_key
from fedcall.privacy.accounting.epsilon import compose, group_epsilon, largest_loss, study_epsilon
from fedcall.privacy.accounting.filter import cumulative_epsilon
from fedcall.privacy.events import Event, round_event
from fedcall.privacy.ledger.ledger import Ledger
from fedcall.privacy.ledger.limits import Limit
from fedcall.privacy.ledger.plan import plan_ledger
from fedcall.privacy.ledger.summary import summarise
from fedcall.privacy.mechanism.bounded_sum import sum_event
from fedcall.privacy.terms import PrivacyTerms
from fedcall.reporting.base.pages import render, round_up, to_json
from fedcall.reporting.privacy.documents import ClosedEarly, PrivacyReport
from fedcall.reporting.privacy.ledger_facts import FamilyCharges, read_ledger
from fedcall.reporting.privacy.rounds import read_rounds
from fedcall.reporting.privacy.site_report import privacy_figures, privacy_report
from fedcall.reporting.privacy.spending import family_epsilon, planned_spends
from fedcall.reporting.privacy.study_report import study_privacy_report
from fedcall.study.claims import Claim
from reporting_page import shown_values
from reporting_study import Federation, make_federation, play_round, request

CLOSED = ClosedEarly(round=2, reason="the sequencer was replaced", operator="ada@here")
CHECKLIST = (
    "Setting, trust and the adversary's view",
    "Unit, contribution bound, overlap",
    "Adjacency",
    "Everything released",
    "Data touched without privacy",
    "Epsilon and delta",
    "Accountant",
    "Sampler",
    "Mechanism and its numbers",
    "Noise source, floating point, keys",
    "Cumulative spend",
    "Audit",
    "Utility",
    "Code and configuration",
)
EXAMPLE = PrivacyTerms(
    unit="example", examples_per_patient=50, noise_multiplier=2.0, sampling_rate=0.1, delta=1e-4, rows_per_unit=1
)


def report_of(federation: Federation, site: str = "north", shareable: bool = False) -> PrivacyReport:
    hospital, study = federation.sites[site], federation.study
    facts = read_ledger(hospital.ledger, read_secret(hospital.keys), study, site)
    return privacy_report(study, site, read_rounds(study, site, hospital.rounds), facts, shareable)


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    federation = make_federation(tmp_path_factory.mktemp("study"))
    for number in (1, 2, 3):
        play_round(federation, "north", number)
    play_round(federation, "south", 1)
    play_round(federation, "south", 2, "rejected", "noise-floor")
    play_round(federation, "south", 3, answer=False)
    return federation


def test_privacy_report__epsilons_are_those_of_the_accountant(federation: Federation) -> None:
    report, terms = report_of(federation), federation.study.privacy
    for releases, row in enumerate(report.rounds, start=1):
        expected = study_epsilon(terms, releases)
        assert (row.epsilon_pld, row.epsilon_rdp) == (expected.pld, expected.rdp)
        assert row.claimed_epsilon == row.aggregator_epsilon == expected.pld
    assert report.spent.releases == 3
    assert report.spent.epsilon_pld == report.rounds[-1].epsilon_pld
    assert report.spent.planned_epsilon_pld == study_epsilon(terms, 6).pld
    assert [point.round for point in report.planned] == [1, 2, 3, 4, 5, 6]
    assert report.planned[-1].epsilon_pld == report.spent.planned_epsilon_pld
    assert [row.planned_epsilon_pld for row in report.rounds] == [point.epsilon_pld for point in report.planned[:3]]
    assert report.light.colour == "green"


def test_privacy_report__one_more_round_than_fits_would_pass_the_cap(federation: Federation) -> None:
    spent, terms = report_of(federation).spent, federation.study.privacy
    fits = spent.rounds_that_fit
    assert fits is not None
    assert study_epsilon(terms, 3 + fits).pld <= 8.0 < study_epsilon(terms, 3 + fits + 1).pld
    assert f"; {fits} more rounds fit under this study's cap." in spent.sentence


def test_promise_5__epsilon_at_a_common_delta_stands_beside_it(federation: Federation) -> None:
    report, event = report_of(federation), round_event(federation.study.privacy)
    common, delta = compose([(event, 3)], 1e-5).pld, federation.study.privacy.delta
    both = f"ε = {round_up(compose([(event, 3)], delta).pld)} at δ = 8 × 10⁻³ ({round_up(common)} at δ = 10⁻⁵)"
    assert report.spent.epsilon_common == common
    assert both in report.spent.sentence
    assert report.site_only is not None
    assert report.site_only.epsilon_common == pytest.approx(common)
    study = study_privacy_report(federation.study, [report])
    assert study.largest_epsilon_common == common
    assert both in study.sentence


def test_promise_5__odds_are_the_losss_and_delta_is_not_called_a_chance_of_failing(federation: Federation) -> None:
    report, event = report_of(federation), round_event(federation.study.privacy)
    loss = largest_loss([(event, 3)], federation.study.privacy.delta)
    assert report.spent.membership is not None
    assert report.spent.membership.odds == pytest.approx(math.exp(loss))
    assert report.spent.epsilon_pld is not None
    assert loss > report.spent.epsilon_pld
    page = render(report, "privacy.html", privacy_figures(report))
    assert "δ is not the chance that a loss is above ε" in page


def test_families__stand_beside_a_patients_own_epsilon(federation: Federation) -> None:
    report, event = report_of(federation), round_event(federation.study.privacy)
    delta = federation.study.privacy.delta
    told = [(group.units, group.epsilon_pld) for group in report.spent.families]
    assert told == [(size, group_epsilon([(event, 3)], delta, size).pld) for size in (2, 3)]


def test_families__known_ones_are_held_against_what_one_person_may_lose(federation: Federation) -> None:
    hospital, study = federation.sites["north"], federation.study
    records = read_rounds(study, "north", hospital.rounds)
    facts = read_ledger(hospital.ledger, read_secret(hospital.keys), study, "north")
    event, delta = round_event(study.privacy), study.privacy.delta
    joint = group_epsilon([(event, 3)], delta, 2).pld
    here = FamilyCharges(2, ((study.digest, event, 3),))
    facts = replace(facts, limit=Limit(epsilon=joint - 0.01, delta=delta), families=(here,))
    report = privacy_report(study, "north", records, facts)
    assert report.site_only is not None
    [family] = report.site_only.families
    assert (family.people, family.epsilon_pld, family.within_cap, family.within_limit) == (2, joint, True, False)
    assert "Relatives found among the patients" in " ".join(
        condition.statement for condition in report.light.conditions if not condition.holds
    )
    assert report.light.colour == "amber"
    page = render(report, "privacy.html", privacy_figures(report))
    assert "more than one person may lose" in page
    shared = privacy_report(study, "north", records, facts, shareable=True)
    assert shared.site_only is None
    assert not any("Relatives found" in condition.statement for condition in shared.light.conditions)


def test_families__earlier_studies_count_and_several_are_bounded_by_rdp(federation: Federation) -> None:
    """Against the exact loss of a Gaussian whose sum two relatives move by two clip norms (Balle and Wang 2018)."""
    hospital, study, delta = federation.sites["north"], federation.study, 1e-3
    full = Event(unit="patient", mechanism="gaussian", noise_multiplier=8.0, sampling_rate=1.0, steps=4)

    def exact(steps: int) -> float:
        distance = 2 * math.sqrt(steps) / 8.0
        at = [x / 1000 for x in range(20_000)]
        return next(x for x in at if _gaussian_delta(distance, x) <= delta)

    one_study = family_epsilon(FamilyCharges(2, (("a", full, 5),)), delta)
    assert exact(20) - 1e-3 <= one_study < 1.05 * exact(20)
    several = family_epsilon(FamilyCharges(2, (("a", full, 3), ("b", full, 2))), delta)
    assert several > one_study, "the second study's terms may depend on what the first one released"
    assert family_epsilon(FamilyCharges(2, (("a", full.model_copy(update={"unit": "example"}), 1),)), delta) == math.inf
    records = read_rounds(study, "north", hospital.rounds)
    facts = read_ledger(hospital.ledger, read_secret(hospital.keys), study, "north")
    own = round_event(study.privacy)
    facts = replace(facts, families=(FamilyCharges(2, ((study.digest, own, 3), ("b" * 64, full, 2))),))
    report = privacy_report(study, "north", records, facts)
    assert report.site_only is not None
    [family] = report.site_only.families
    assert family.studies == 2
    assert family.epsilon_over_ledger > family.epsilon_pld
    page = render(report, "privacy.html", privacy_figures(report))
    assert "site_only.families.0.epsilon_over_ledger" in shown_values(page, json.loads(to_json(report)))


def _gaussian_delta(distance: float, epsilon: float) -> float:
    normal = NormalDist()
    return normal.cdf(distance / 2 - epsilon / distance) - math.exp(epsilon) * normal.cdf(
        -distance / 2 - epsilon / distance
    )


def test_privacy_report__states_all_fourteen_points(federation: Federation) -> None:
    report = report_of(federation)
    assert tuple(item.point for item in report.checklist) == CHECKLIST
    assert [item.number for item in report.checklist] == list(range(1, 15))
    assert all(len(item.statement) > 40 for item in report.checklist)


@pytest.mark.parametrize("number", range(14))
def test_privacy_report__a_missing_or_empty_point_is_refused(federation: Federation, number: int) -> None:
    content = json.loads(to_json(report_of(federation)))
    emptied = json.loads(json.dumps(content))
    emptied["checklist"][number]["statement"] = ""
    del content["checklist"][number]
    for broken in (content, emptied):
        with pytest.raises(ValueError, match="checklist"):
            PrivacyReport.model_validate(broken)


def test_privacy_report__says_what_is_not_covered(federation: Federation) -> None:
    topics = {item.topic for item in report_of(federation).not_covered}
    assert {
        "Relatives",
        "Patients at two sites",
        "Data touched without privacy",
        "Trust in the aggregator",
        "Timing and side channels",
    } <= topics


def test_privacy_report__refusal_and_silence_are_told_and_turn_the_light_amber(federation: Federation) -> None:
    report = report_of(federation, "south")
    assert [row.status for row in report.rounds] == ["accepted", "rejected", "waiting"]
    assert report.rounds[1].reason == "noise-floor"
    assert report.spent.releases == 3  # a refused update was seen, and is paid for
    assert report.light.colour == "amber"


def test_privacy_report__page_shows_what_the_json_says(federation: Federation) -> None:
    for site in ("north", "south"):
        report = report_of(federation, site)
        page = render(report, "privacy.html", privacy_figures(report))
        shown = shown_values(page, json.loads(to_json(report)))
        assert {"spent.sentence", "spent.epsilon_pld", "rounds.2.epsilon_rdp", "checklist.13.statement"} <= shown
        assert "&lt;ok&gt;" in page  # the aggregator's words are text, not markup
        assert "<ok>" not in page


def test_privacy_report__example_epsilon_is_never_a_patients(tmp_path: Path) -> None:
    federation = make_federation(tmp_path, EXAMPLE)
    play_round(federation, "north", 1)
    report = report_of(federation)
    page = render(report, "privacy.html", privacy_figures(report))
    assert report.spent.sentence.startswith("Each example's total privacy loss")
    assert "not of a patient: a patient's guarantee is weaker" in report.spent.sentence
    assert "ε per patient" not in page
    assert "most exposed patient" not in page
    assert report.light.colour == "amber"
    assert report.not_covered[0].topic == "Patients"


def test_privacy_report__without_noise_nothing_is_claimed(tmp_path: Path) -> None:
    federation = make_federation(tmp_path, PrivacyTerms(noise_multiplier=0, max_epsilon=None, delta=8e-3))
    play_round(federation, "north", 1)
    report = report_of(federation)
    assert report.spent.epsilon_pld is None
    assert report.spent.membership is None
    assert report.light.colour == "red"
    assert report.spent.sentence == "Nothing bounds the privacy loss of any patient: training added no noise."
    page = render(report, "privacy.html", privacy_figures(report))
    shown_values(page, json.loads(to_json(report)))
    assert "protects every" not in page
    assert "keyed by the site's secret" not in page


def test_privacy_report__cap_reached_is_withheld_and_never_passed(tmp_path: Path) -> None:
    terms = PrivacyTerms(noise_multiplier=1.0, sampling_rate=1.0, steps_per_round=1, delta=8e-3, max_epsilon=5.0)
    federation = make_federation(tmp_path, terms)
    for number in range(1, 7):
        play_round(federation, "north", number)
    report = report_of(federation)
    assert report.spent.rounds_that_fit == 0
    assert report.spent.epsilon_pld is not None
    assert report.spent.epsilon_pld <= 5.0
    assert {row.status for row in report.rounds} == {"accepted", "withheld"}
    assert [row.charged for row in report.rounds] == [row.status == "accepted" for row in report.rounds]
    assert "no more rounds fit" in report.spent.sentence


def test_privacy_report__counts_other_studies_and_keeps_them_at_the_site(tmp_path: Path) -> None:
    first, second = make_federation(tmp_path, name="first"), make_federation(tmp_path, name="second")
    for number in (1, 2):
        play_round(first, "north", number)
    play_round(second, "north", 1)
    report, shared = report_of(second), report_of(second, shareable=True)
    assert report.site_only is not None
    event, terms = round_event(second.study.privacy), second.study.privacy
    charges = [(first.study.digest, event, 2), (second.study.digest, event, 1)]
    over_all = cumulative_epsilon(charges, terms.delta, terms.unit, terms.max_epsilon)
    assert report.site_only.epsilon_pld == pytest.approx(over_all.pld)
    assert over_all.pld > study_epsilon(terms, 3).pld, "the second study's terms may have followed from the first"
    assert report.spent.epsilon_pld == study_epsilon(second.study.privacy, 1).pld
    assert "by an RDP filter over all 2 studies" in report.spent.sentence
    assert report.site_only.accountant == "RDP filter"
    page = render(report, "privacy.html", privacy_figures(report))
    assert 'by <data data-path="site_only.accountant"' in page
    assert "most exposed patient (PLD)" not in page
    assert shared.site_only is None
    alone = make_federation(tmp_path / "alone", name="second")
    play_round(alone, "north", 1)
    kept = {"study", "terms", "checklist", "commands", "software"}  # these name the study's digest
    only = report_of(alone, shareable=True)
    assert shared.model_dump(exclude=kept) == only.model_dump(exclude=kept)


def test_privacy_report__counts_each_study_as_ledger_show_does(tmp_path: Path) -> None:
    terms = PrivacyTerms(noise_multiplier=1.0, sampling_rate=1.0, steps_per_round=1, delta=8e-3, max_epsilon=5.0)
    first, second = make_federation(tmp_path, terms, name="first"), make_federation(tmp_path, terms, name="second")
    play_round(first, "north", 1)
    hospital = first.sites["north"]
    with Ledger.open(hospital.ledger, read_secret(hospital.keys)) as opened:
        opened.reserve(request(first, "north", 2))  # interrupted before its release
    for number in range(1, 5):
        play_round(second, "north", number)
    with Ledger.open_to_read(hospital.ledger) as opened:
        summary = summarise(opened, 1e-2)
    assert {one.state for one in summary.rounds} == {"reserved", "released", "withheld"}
    report = report_of(second)
    assert report.site_only is not None
    for row in report.site_only.by_study:
        states = Counter(one.state for one in summary.rounds if one.study == row.study)
        assert states == +Counter(released=row.charged - row.unreleased, reserved=row.unreleased, withheld=row.withheld)
        assert row.is_this == (row.study == second.study.digest)
    interrupted, own = report.site_only.by_study
    assert (interrupted.charged, interrupted.unreleased) == (2, 1)
    assert interrupted.epsilon_pld == study_epsilon(terms, 2).pld
    assert own.charged > 0
    assert own.epsilon_pld == 0.0, "everybody's budget was spent in the first study, so nobody lost anything here"
    shown = shown_values(render(report, "privacy.html", privacy_figures(report)), json.loads(to_json(report)))
    assert {"site_only.by_study.0.unreleased", "site_only.by_study.1.epsilon_pld"} <= shown


def test_privacy_report__the_judges_charge_is_of_other_people_than_those_trained_on(tmp_path: Path) -> None:
    federation = make_federation(tmp_path)
    for number in (1, 2):
        play_round(federation, "north", number)
    before, hospital, terms = report_of(federation), federation.sites["north"], federation.study.privacy
    event = sum_event("laplace", 0.3, 0.0)
    judging = replace(request(federation, "north", 7), event=event, patients=("h1", "h2"))
    spent = replace(judging, study="e" * 64, round=1, event=sum_event("laplace", 3.9, 0.0), patients=("h2",))
    with Ledger.open(hospital.ledger, read_secret(hospital.keys)) as opened:
        opened.reserve(spent)
        assert opened.reserve(replace(spent, round=2)).charged == {"h2"}
        assert opened.reserve(judging).charged == {"h1"}
    after = report_of(federation)
    assert before.site_only is not None
    assert after.site_only is not None
    own = next(row for row in after.site_only.by_study if row.is_this)
    assert own.epsilon_pld == study_epsilon(terms, 2).pld, "nobody was in both"
    assert own.charged == 3
    assert (after.site_only.people, after.site_only.people_who_fit) == (12, before.site_only.people_who_fit)
    assert (after.site_only.judging_people, after.site_only.judging_exhausted) == (1, 1)
    assert after.site_only.exhausted == (), "a round of the judge is no round of training"
    assert "The judge charged 1 held-out person; 1 more had no budget left" in after.checklist[10].statement
    assert after.spent.releases == before.spent.releases == 2
    shown = shown_values(render(after, "privacy.html", privacy_figures(after)), json.loads(to_json(after)))
    assert {"site_only.judging_people", "site_only.judging_exhausted"} <= shown
    with Ledger.open_to_read(hospital.ledger) as opened:
        plan = plan_ledger(opened, "demo", federation.study.digest, terms, 6)
    assert (plan.rounds_charged, plan.rounds_left, [group.patients for group in plan.groups]) == (2, 4, [12])


def test_privacy_report__long_plan_is_drawn_at_a_dozen_rounds(tmp_path: Path) -> None:
    federation = make_federation(tmp_path)
    study = federation.study.model_copy(update={"rounds": 100})
    points = [point.round for point in planned_spends(study)]
    assert (points[0], points[-1], len(points)) == (1, 100, 12)
    assert points == sorted(set(points))
    assert [point.round for point in planned_spends(study.model_copy(update={"rounds": 1}))] == [1]


def test_privacy_report__edited_ledger_is_red(tmp_path: Path) -> None:
    federation = make_federation(tmp_path)
    for number in (1, 2):
        play_round(federation, "north", number)
    with sqlite3.connect(federation.sites["north"].ledger) as database:
        database.execute("UPDATE rows SET round = 9 WHERE number = 1")
    report = report_of(federation)
    assert report.light.colour == "red"
    assert any("row 1" in condition.statement for condition in report.light.conditions if not condition.holds)


def test_read_rounds__claim_signed_by_another_is_refused(tmp_path: Path) -> None:
    federation = make_federation(tmp_path)
    play_round(federation, "north", 1)
    path = federation.sites["north"].rounds / "1" / "claim.json"
    claim = Claim.model_validate(json.loads(path.read_bytes())["body"])
    write_signed(path, claim, read_signing_key(federation.sites["south"].keys))
    with pytest.raises(FedcallError, match=r"1/claim\.json: claim: signed by another key"):
        report_of(federation)


def test_read_rounds__receipt_of_another_round_is_refused(tmp_path: Path) -> None:
    federation = make_federation(tmp_path)
    play_round(federation, "north", 1)
    play_round(federation, "north", 2)
    rounds = federation.sites["north"].rounds
    (rounds / "2" / "receipt.json").write_bytes((rounds / "1" / "receipt.json").read_bytes())
    with pytest.raises(FedcallError, match=r"2/receipt\.json: speaks of round 1, but 2"):
        report_of(federation)


def test_privacy_report__update_without_a_charge_is_red(tmp_path: Path) -> None:
    federation = make_federation(tmp_path)
    play_round(federation, "north", 1)
    hospital = federation.sites["north"]
    hospital.ledger.rename(tmp_path / "lost.sqlite")
    for extra in hospital.ledger.parent.glob("ledger.sqlite*"):
        if extra.is_file():
            extra.unlink()
    with pytest.raises(FedcallError, match="no such ledger"):
        report_of(federation)
    other = make_federation(tmp_path, name="other")
    play_round(other, "north", 1)
    report = report_of(federation)
    assert report.light.colour == "red"
    assert not report.rounds[0].charged


def test_privacy_figures__are_self_contained_with_unique_ids(federation: Federation) -> None:
    report = report_of(federation)
    page = render(report, "privacy.html", privacy_figures(report))
    assert "http://" not in page.replace("http://www.w3.org/", "")
    assert "https://" not in page
    assert math.isclose(page.count("<figure>"), page.count("<figcaption>"))


def test_privacy_report__of_a_study_closed_early_plans_no_further_round(tmp_path: Path) -> None:
    federation = make_federation(tmp_path)
    for number in (1, 2):
        play_round(federation, "north", number)
    study, hospital = federation.study, federation.sites["north"]
    records = read_rounds(study, "north", hospital.rounds)
    facts = read_ledger(hospital.ledger, read_secret(hospital.keys), study, "north")
    going_on, closed = (privacy_report(study, "north", records, facts, closed=one) for one in (None, CLOSED))
    assert (going_on.spent.rounds_left_in_plan, closed.spent.rounds_left_in_plan) == (4, 0)
    assert going_on.spent.epsilon_pld == closed.spent.epsilon_pld
    page = render(closed, "privacy.html", privacy_figures(closed))
    assert {"closed.round", "closed.reason", "closed.operator"} <= shown_values(page, json.loads(to_json(closed)))
    page = render(going_on, "privacy.html", privacy_figures(going_on))
    assert not any(path.startswith("closed") for path in shown_values(page, json.loads(to_json(going_on))))
