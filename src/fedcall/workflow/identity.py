"""Who of a run's people is whom: duplicates, swaps and relatives by their reads, inside the hospital.

Sketches and the registry of people lie in the configuration's `sketches` folder, for their owner alone. The registry
names whom earlier runs compared, so that a person is known again across sheets and studies.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field, ValidationError

from fedcall.documents import Document
from fedcall.errors import FedcallError, PrivacyRefusal
from fedcall.files import write_for_owner
from fedcall.genomics.identity.comparison import Comparison, Pair, compare_people
from fedcall.genomics.identity.sketch import Sketch, SketchFolder, read_sketch
from fedcall.privacy.accounting.epsilon import Epsilon, group_epsilon, round_event, study_epsilon
from fedcall.workflow.configuration import Patient
from fedcall.workflow.rows_of_people import PUBLIC
from fedcall.workflow.run import Run

REGISTRY = "people.json"


class KnownPerson(Document):
    """Somebody whom a run compared, by the name of the sketch."""

    person: str
    split: str
    study: str
    sketch: str


class IdentityStatement(Document):
    """Two people are not one human being, as somebody at the hospital stated in a sheet."""

    people: tuple[str, str]
    study: str
    time: str = Field(description="When it was recorded, UTC.")


class KnownFamily(Document):
    """Training patients of a study whom their genotypes show to be close relatives."""

    people: tuple[str, ...]
    study: str


class Registry(Document):
    """Everybody whom the hospital has compared, and what was stated about them."""

    people: tuple[KnownPerson, ...] = ()
    statements: tuple[IdentityStatement, ...] = ()
    families: tuple[KnownFamily, ...] = ()


@dataclass(frozen=True)
class Someone:
    """One of the people compared: of this run, or of an earlier study."""

    person: str
    row: str
    split: str
    study: str
    site: str
    sketch: str
    distinct_from: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Family:
    """Training patients of one site who are close relatives, and what the study costs them together.

    Attributes
    ----------
    joint : epsilon of the group as one: no attacker learns more than this about what they share
    alone : epsilon of each
    """

    site: str
    people: tuple[str, ...]
    joint: Epsilon | None
    alone: Epsilon | None


@dataclass(frozen=True)
class Found:
    """What was found among a run's people and those of earlier studies; it tells genotypes and so stays inside."""

    people: tuple[Someone, ...]
    comparison: Comparison
    families: tuple[Family, ...]
    refusal: str | None

    @property
    def untold(self) -> int:
        """Pairs that cannot be told apart with these reads."""
        return sum(pair.verdict == "cannot tell" for pair in self.comparison.pairs)

    def lines(self) -> list[str]:
        """Return what a person at the hospital reads, a line each."""
        pairs, kilobases = len(self.comparison.pairs), self.comparison.bases / 1_000
        lines = [
            f"people compared by their reads: {len(self.people)}, {pairs} pairs, {self.comparison.sites} common sites"
            f" in {kilobases:,.0f} kb"
        ]
        if self.untold:
            lines.append(
                f"  {self.untold} of {pairs} pairs: too few bases or reads to tell by genotypes whether they are one"
                " person; copies of the same reads would have been found"
            )
        for pair in self.comparison.pairs:
            if pair.verdict == "relatives":
                names = f"{self.people[pair.one].row} and {self.people[pair.other].row}"
                lines.append(f"  close relatives: {names} (log-likelihood ratio {pair.relatives:.1f})")
        lines += [f"  {sentence}" for family in self.families for sentence in _family_lines(family)]
        return lines


def compare_run(
    run: Run, sites: Sequence[str] | None = None, alignments: Mapping[str, Path] | None = None, threads: int = 1
) -> Found | None:
    """Compare everybody of a run, and public people, with each other and with people of earlier studies.

    Parameters
    ----------
    sites : whose patients to compare; all of the run, if left out
    alignments : files by patient, in place of the sheet's where given
    threads : sketches made at a time

    Returns
    -------
    Found or None
        None if fewer than two people have alignments yet.
    """
    sites = run.sites if sites is None else tuple(sites)
    folders = {site: SketchFolder(Path(run.config.sketches.format(site=site))) for site in sites}
    folders[PUBLIC] = folders[sites[0]]
    people: list[Someone] = []
    sketches: list[Sketch] = []
    for folder in (*sites, PUBLIC):
        rows = [one for one in run.patients if one.site == folder and _file(one, alignments) is not None]
        if not rows:
            continue
        kept = folders[folder].sketches(
            [(_present(one, alignments), _reference(run, one), _regions(one)) for one in rows], threads
        )
        for row, (name, sketch) in zip(rows, kept, strict=True):
            people.append(_someone(row, folder, name, run.study.name))
            sketches.append(sketch)
    new = len(people)
    if new < 2:
        return None
    registries = {site: read_registry(folders[site].folder) for site in sites}
    stated = {frozenset(one.people) for registry in registries.values() for one in registry.statements}
    for site, registry in registries.items():
        for known in registry.people:
            if any(known.sketch == one.sketch and known.person == one.person for one in people):
                continue
            file = folders[site].folder / f"{known.sketch}.npz"
            if file.exists():
                people.append(Someone(known.person, known.person, known.split, known.study, site, known.sketch))
                sketches.append(read_sketch(file))
    reference = run.config.reference if run.config.panel else None
    comparison = compare_people(sketches, new, run.config.panel if reference else None, reference)
    refusal = next(
        (sentence for pair in comparison.pairs if (sentence := _refusal(people, pair, stated, run)) is not None), None
    )
    return Found(tuple(people), comparison, _families(run, people[:new], comparison), refusal)


def refuse_duplicates(found: Found) -> None:
    """Raise PrivacyRefusal if two people of the sheet, or of it and an earlier study, are one human being."""
    if found.refusal is not None:
        raise PrivacyRefusal(found.refusal)


def remember_people(run: Run, found: Found, site: str) -> None:
    """Add a site's people and their statements to its registry; a run that was refused is not remembered."""
    folder = Path(run.config.sketches.format(site=site))
    registry = read_registry(folder)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    own = [one for one in found.people if one.study == run.study.name and one.site in (site, PUBLIC)]
    known = {(one.person, one.sketch): one for one in registry.people}
    for one in own:
        known.setdefault(
            (one.person, one.sketch),
            KnownPerson(person=one.person, split=one.split, study=one.study, sketch=one.sketch),
        )
    statements = list(registry.statements)
    stated = {frozenset(one.people) for one in statements}
    for one in own:
        for other in sorted(one.distinct_from):
            if frozenset((one.person, other)) not in stated:
                stated.add(frozenset((one.person, other)))
                statements.append(IdentityStatement(people=(one.person, other), study=run.study.name, time=now))
    others = [one for one in registry.families if one.study != run.study.name]
    own_families = [KnownFamily(people=one.people, study=run.study.name) for one in found.families if one.site == site]
    changed = Registry(people=tuple(known.values()), statements=tuple(statements), families=(*others, *own_families))
    if changed != registry:
        write_for_owner(folder / REGISTRY, (changed.model_dump_json(indent=1) + "\n").encode())


def forget_person(folder: Path, person: str) -> None:
    """Delete a person's sketches, unless somebody else has the very same, and all that the registry says of them."""
    registry = read_registry(folder)
    others = tuple(one for one in registry.people if one.person != person)
    statements = tuple(one for one in registry.statements if person not in one.people)
    left = [
        KnownFamily(people=tuple(x for x in one.people if x != person), study=one.study) for one in registry.families
    ]
    changed = Registry(people=others, statements=statements, families=tuple(one for one in left if len(one.people) > 1))
    if changed == registry:
        return
    gone = {one.sketch for one in registry.people if one.person == person} - {one.sketch for one in others}
    for sketch in gone:
        (folder / f"{sketch}.npz").unlink(missing_ok=True)
    write_for_owner(folder / REGISTRY, (changed.model_dump_json(indent=1) + "\n").encode())


def read_registry(folder: Path) -> Registry:
    """Read the registry of a folder of sketches; an empty one if there is none."""
    path = Path(folder) / REGISTRY
    try:
        return Registry.model_validate(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return Registry()
    except (ValueError, ValidationError):
        raise FedcallError(f"{path}: not a registry of people; restore it from your backup") from None


def known_families(folder: Path, study: str) -> tuple[tuple[str, ...], ...]:
    """Return the names of each family known among a study's training patients, by a site's folder of sketches."""
    return tuple(sorted(one.people for one in read_registry(folder).families if one.study == study))


def _refusal(people: Sequence[Someone], pair: Pair, stated: set[frozenset[str]], run: Run) -> str | None:
    one, other = people[pair.one], people[pair.other]
    sheet = run.config.samples
    if one.person == other.person:
        if one.split != other.split and "train" in (one.split, other.split) and other.study == run.study.name:
            return (
                f"{sheet}: '{one.row}' ({one.split}) and '{other.row}' ({other.split}) are one person, '{one.person}';"
                " who trains the model cannot judge it or be public: leave one row out"
            )
        if pair.are_two:
            return (
                f"{sheet}: '{one.row}' and {_told(other, run)} are named one person, '{one.person}', but their"
                " genotypes are two people's: find which file was swapped"
            )
        return None
    if not pair.are_one or one.site == other.site == PUBLIC:
        return None
    if other.person in one.distinct_from or one.person in other.distinct_from:
        return None
    if frozenset((one.person, other.person)) in stated:
        return None
    why = (
        f"{pair.shared_reads} of the reads looked at stand in both files"
        if pair.verdict == "same reads"
        else f"their genotypes agree, log-likelihood ratio {pair.same:.0f}"
    )
    return (
        f"{sheet}: '{one.row}' and {_told(other, run)} are one human being ({why}): leave one row out, or"
        f" go on under one name in the column 'person'; for identical twins, write '{other.person}' into the column"
        f" 'distinct_from' of '{one.row}', which is recorded"
    )


def _told(one: Someone, run: Run) -> str:
    return f"'{one.row}'" if one.study == run.study.name else f"'{one.person}' of study '{one.study}'"


def _families(run: Run, people: Sequence[Someone], comparison: Comparison) -> tuple[Family, ...]:
    """Join relatives among the training patients of each site; distant ones through nearer ones."""
    leader = list(range(len(people)))

    def find(place: int) -> int:
        while leader[place] != place:
            place = leader[place]
        return place

    for pair in comparison.pairs:
        if pair.verdict == "relatives" and pair.other < len(people):
            one, other = people[pair.one], people[pair.other]
            if one.split == other.split == "train" and one.site == other.site:
                leader[find(pair.one)] = find(pair.other)
    groups: dict[int, list[Someone]] = {}
    for place, someone in enumerate(people):
        if someone.split == "train":
            groups.setdefault(find(place), []).append(someone)
    return tuple(_family(run, group) for group in groups.values() if len(group) > 1)


def _family(run: Run, group: Sequence[Someone]) -> Family:
    names = tuple(sorted({one.person for one in group}))
    terms = run.study.privacy
    if terms.unit != "patient" or terms.noise_multiplier == 0:
        return Family(group[0].site, names, None, None)
    joint = group_epsilon([(round_event(terms), run.study.rounds)], terms.delta, len(names))
    return Family(group[0].site, names, joint, study_epsilon(terms, run.study.rounds))


def _family_lines(family: Family) -> list[str]:
    names = ", ".join(family.people)
    if family.joint is None or family.alone is None:
        return [f"family of {len(family.people)}: {names}: this study bounds nothing for them together"]
    joint = f"{family.joint.pld:.2f}" if family.joint.is_finite else "unlimited"
    return [
        f"family of {len(family.people)}: {names}: epsilon {joint} together by this study, {family.alone.pld:.2f} each"
        " alone, at its delta"
    ]


def _someone(row: Patient, site: str, sketch: str, study: str) -> Someone:
    stated = frozenset(name.strip() for name in (row.distinct_from or "").split(",") if name.strip())
    person = getattr(row, "charged", row.patient)
    return Someone(person, row.patient, row.split, study, site, sketch, stated)


def _file(row: Patient, alignments: Mapping[str, Path] | None) -> Path | None:
    given = (alignments or {}).get(row.patient, row.alignments)
    return given if given is not None and given.is_file() else None


def _present(row: Patient, alignments: Mapping[str, Path] | None) -> Path:
    file = _file(row, alignments)
    assert file is not None
    return file


def _reference(run: Run, row: Patient) -> Path:
    from fedcall.workflow.run import COHORT_FOLDER

    reference = row.reference or run.config.reference or COHORT_FOLDER / "reference.fa"
    return Path(reference)


def _regions(row: Patient) -> Path | None:
    return None if row.has_gvcf_regions else row.regions
