# The entry for people: `snakemake --cores all`. The workflow itself is in workflow/Snakefile.
include: "workflow/Snakefile"


workflow.default_target = "all"  # an include alone would leave "nothing to be done"
