# Which alignments are looked at to find one human being under two names.


def alignments_to_compare(wildcards):
    """Return the alignments of sites' patients and of public people: the hospital's own, or those made here."""
    sites = sites_of_job(wildcards)
    return [
        (
            str(patient.alignments)
            if patient.alignments is not None and not IS_MODULE
            else f"{RESULTS}/{patient.site}/alignments/{patient.patient}.bam"
        )
        for patient in RUN.patients
        if patient.site in (*sites, PUBLIC)
    ]


def alignments_made_here(wildcards, input):
    """Return the options that name alignments which the sheet does not."""
    made = [path for path in input.alignments if path.startswith(f"{RESULTS}/")]
    return options("--alignments", made)


def ledgers_of_all_sites():
    """Return the options that name each site's ledger and keys, for whoever must not meet a charged person."""
    ledgers, keys = (
        [private_folder(one, site) for site in SITES]
        for one in (CONFIG.ledger, CONFIG.site_key)
    )
    return f"{options('--ledger', ledgers)} {options('--keys', keys)}"
