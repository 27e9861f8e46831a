# Files of the rules that run other callers: functions for callers.smk.

import hashlib


def genome_key(reference):
    """Return a short name for a reference, under which a plain copy or a link of it lies."""
    return hashlib.sha256(str(reference).encode()).hexdigest()[:12]


def or_say_so(rule, wildcards):
    """Return what ends the command of a caller: a failure is one line with job, patient, log and what to do.

    In plain shell, because a container has no fedcall.
    """
    log = f"logs/{rule}/{wildcards.study}.{wildcards.site}.{wildcards.patient}.log"
    return (
        f"|| {{ status=$?; echo 'fedcall: {rule}: the caller ended with exit status '$status"
        f"' on patient {wildcards.patient} (137: killed, often for want of memory); what it said is in {log};"
        " mend that and run again, or leave the caller out of callers in the configuration' >&2; exit $status; }"
    )


def genome_path(patient):
    if CONFIG.cohort is not None:
        return str(COHORT_FOLDER / "reference.fa")
    return str(RUN.by_name[patient].reference or CONFIG.reference)


CALLERS_GENOMES = {
    genome_key(path): path
    for path in (genome_path(patient) for own in RUN.scored.values() for patient in own)
}


def indexes_of_genome(key):
    return [
        ancient(str(index)) for index in reference_indexes(Path(CALLERS_GENOMES[key]))
    ]


def genome_for_callers(wildcards, suffix="fa"):
    """Return the patient's reference as callers read it: plain, with index and dictionary beside it."""
    return f"resources/callers/{genome_key(genome_path(wildcards.patient))}/genome.{suffix}"


def genome_index_for_callers(wildcards):
    return genome_for_callers(wildcards, "fa.fai")


def dictionary_for_callers(wildcards):
    return genome_for_callers(wildcards, "dict")


def files_for_callers():
    """Return the input of a rule that runs a caller."""
    return {
        "alignments": "results/{study}/{site}/alignments/{patient}.bam",
        "index": f"results/{{study}}/{{site}}/alignments/{{patient}}.bam{READS_INDEX}",
        "reference": genome_for_callers,
        "reference_index": genome_index_for_callers,
        "bed": "results/{study}/{site}/callers/{patient}.bed",
    }


def calls_of_caller(wildcards):
    """Return what the caller wrote; freebayes writes plain text, and collect_calls compresses it."""
    suffix = "vcf" if wildcards.caller == "freebayes" else "vcf.gz"
    folder = f"{RESULTS}/{wildcards.site}/callers/{wildcards.caller}"
    return f"{folder}/{wildcards.patient}.{suffix}"


def calls_of_others():
    """Return, for rules about a patient's errors, the calls of the other callers."""
    return [
        f"results/{{study}}/{{site}}/baselines/{caller}/{{patient}}.vcf.gz"
        for caller in CONFIG.callers
    ]


def others_options(wildcards, input):
    """Return the options that name the other callers' calls."""
    return options(
        "--against",
        [
            f"{caller}={path}"
            for caller, path in zip(CONFIG.callers, input.others, strict=True)
        ],
    )


def agreements_of_this_run():
    return [
        f"{RESULTS}/{folder}/agreement/{patient}.json"
        for folder, patients in RUN.scored.items()
        for patient in patients
    ]
