# Which alignments are looked at to find one human being under two names.


def alignments_to_compare(wildcards):
    """Return the alignments of a site's patients and of public people: the hospital's own, or those made here."""
    return [
        (
            str(patient.alignments)
            if patient.alignments is not None and not IS_MODULE
            else f"{RESULTS}/{patient.site}/alignments/{patient.patient}.bam"
        )
        for patient in RUN.patients
        if patient.site in (wildcards.site, PUBLIC)
    ]


def alignments_made_here(wildcards, input):
    """Return the options that name alignments which the sheet does not."""
    made = [path for path in input.alignments if path.startswith(f"{RESULTS}/")]
    return options("--alignments", made)
