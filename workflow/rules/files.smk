# Which files belong to which: functions of wildcards, so that the rules read like a table of contents.


def private_folder(template, site):
    """Return a path outside the results, such as that of a site's keys or ledger."""
    return template.format(site=site)


def keys_of_this_run():
    """Return the keys of who runs this: the hospital, or in a rehearsal the coordinator."""
    if RUN.is_rehearsal:
        return f"private/{COORDINATOR}/keys"
    return private_folder(CONFIG.site_key, SITES[0])


def alignments_of(wildcards):
    """Return the patient's alignments: the hospital's own, or those made here from reads."""
    given = RUN.by_name[wildcards.patient].alignments
    if given is None:
        return f"{RESULTS}/{wildcards.site}/aligned/{wildcards.patient}.bam"
    return str(given)


def alignments_index_of(wildcards):
    """Return the index of the hospital's own alignments; made again, it makes nothing else again."""
    given = RUN.by_name[wildcards.patient].alignments
    if given is None or IS_MODULE:
        return []
    if CONFIG.cohort is not None:
        return f"{given}.bai"
    index = alignment_index(given)
    return ancient(str(index)) if index else []


def reads_of(wildcards):
    patient = RUN.by_name[wildcards.patient]
    return [str(reads) for reads in (patient.reads1, patient.reads2) if reads]


def truth_of(wildcards):
    return str(RUN.by_name[wildcards.patient].truth)


def regions_of(wildcards):
    """Return the patient's confident regions; those of a gVCF are made here."""
    patient = RUN.by_name[wildcards.patient]
    if patient.has_gvcf_regions:
        return f"{RESULTS}/{wildcards.site}/regions/{wildcards.patient}.bed"
    return str(patient.regions) if patient.regions else []


def haploid_of(wildcards):
    """Return the BED of what the patient has one copy of, or nothing."""
    return str(RUN.by_name[wildcards.patient].haploid or "") or []


def panel_of_this_run():
    """Return the VCF of public allele frequencies, or nothing."""
    return str(CONFIG.panel) if CONFIG.panel else []


def gvcf_of(wildcards):
    return str(RUN.by_name[wildcards.patient].regions)


def reference_of(wildcards):
    if CONFIG.cohort is not None:
        return str(COHORT_FOLDER / "reference.fa")
    return str(RUN.by_name[wildcards.patient].reference or CONFIG.reference)


def reference_index_of(wildcards):
    """Return the index, and of a bgzipped reference both; made again, it makes nothing else again."""
    return [
        ancient(str(index))
        for index in reference_indexes(Path(reference_of(wildcards)))
    ]


def sample_of(wildcards):
    """Return the name of the patient's column in the truth VCF."""
    return RUN.by_name[wildcards.patient].sample or wildcards.patient


def duplicates_of(wildcards):
    """Return the option that keeps or clears marks of duplicates, for a patient whose row says so."""
    chosen = RUN.by_name[wildcards.patient].duplicates
    return "" if chosen == "mark" else f"--{chosen}-duplicate-marks"


def labels_of(wildcards):
    """Return the normalised truth of a patient, or nothing for a patient without one."""
    if RUN.by_name[wildcards.patient].truth is None:
        return []
    return f"{RESULTS}/{wildcards.site}/labels/{wildcards.patient}.vcf.gz"


def labels_index_of(wildcards):
    labels = labels_of(wildcards)
    return f"{labels}{CALLS_INDEX}" if labels else []


def labels_of_held_out(wildcards):
    """Return the normalised truths of a site's held-out people, among whom a variant is rare or not.

    Never of training patients: a figure of the evaluation would tell about them, charged to nobody.
    """
    return [
        f"{RESULTS}/{wildcards.site}/labels/{patient}.vcf.gz"
        for patient in RUN.scored[wildcards.site]
    ]


def allele_counts_of(wildcards):
    """Return the table that says what is rare; with a panel of public frequencies the panel says it."""
    if CONFIG.panel:
        return []
    return f"{RESULTS}/{wildcards.site}/allele_counts.tsv"


def examples_of(site):
    """Return the examples of a site's training patients, or of the public people, these at all depths."""
    thinned = [f"thinned-{percent}/" for percent in CONFIG.public_thinning]
    return [
        f"{RESULTS}/{site}/examples/{folder}{patient}.safetensors"
        for folder in ("", *(thinned if site == PUBLIC else ()))
        for patient in RUN.training[site]
    ]


def option(name, value):
    """Return `--name value` for the shell, or nothing if there is no value."""
    return f"{name} {shlex.quote(str(value))}" if value else ""


def options(name, values):
    return " ".join(option(name, value) for value in values)


def audit_if_run(wildcards):
    """Return the audit's file once `snakemake audit_privacy` made it: reports wait for no audit, but use one."""
    path = f"{RESULTS}/audit.json"
    return [path] if Path(path).exists() else []
