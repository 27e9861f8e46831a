# Which table of base qualities belongs to a patient. Functions for recalibration.smk, pileup.smk and calls.smk.


def recalibration_of(wildcards):
    """Return the patient's table of base qualities, or nothing where reported ones are used."""
    if CONFIG.local.base_qualities == "reported":
        return []
    return f"{RESULTS}/{wildcards.site}/base_qualities/{wildcards.patient}.json"


def recalibration_option(wildcards, input):
    return option("--recalibration", input.recalibration)
