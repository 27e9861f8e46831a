# Large regions: the same jobs on shards of them, and what joins their results in order. A cohort whose regions fit one
# shard has none of these jobs.


use rule extract_pileup as extract_pileup_shard with:
    output:
        examples=temp(
            "results/{study}/{site}/examples/{patient}.shards/{shard}-of-{shards}.safetensors"
        ),
    log:
        "logs/extract_pileup_shard/{study}.{site}.{patient}.{shard}-of-{shards}.log",
    benchmark:
        "benchmarks/extract_pileup_shard/{study}.{site}.{patient}.{shard}-of-{shards}.tsv"
    wildcard_constraints:
        patient=SHARDED,
    params:
        regions=lambda wildcards, input: training_regions(input.regions),
        truth=lambda wildcards, input: option("--truth", input.labels),
        sample=lambda wildcards, input: option(
            "--sample", input.labels and sample_of(wildcards)
        ),
        recalibration=recalibration_option,
        keep=100,
        shard=SHARD_OPTIONS,
        version=FEDCALL_VERSION,


rule gather_pileup:
    input:
        parts=parts(
            "results/{study}/{site}/examples/{patient}.shards/{shard}-of-{shards}.safetensors"
        ),
    output:
        examples="results/{study}/{site}/examples/{patient}.safetensors",
    log:
        "logs/gather_pileup/{study}.{site}.{patient}.log",
    benchmark:
        "benchmarks/gather_pileup/{study}.{site}.{patient}.tsv"
    wildcard_constraints:
        patient=SHARDED,
    conda:
        "../envs/reads.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 1000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        version=FEDCALL_VERSION,
    shell:
        "fedcall gather --output {output.examples} {input.parts} > {log} 2>&1"


use rule call_variants as call_variants_shard with:
    output:
        calls=temp(
            "results/{study}/{site}/calls/{patient}.shards/{shard}-of-{shards}.vcf.gz"
        ),
        index=temp(
            f"results/{{study}}/{{site}}/calls/{{patient}}.shards/{{shard}}-of-{{shards}}.vcf.gz{CALLS_INDEX}"
        ),
    log:
        "logs/call_variants_shard/{study}.{site}.{patient}.{shard}-of-{shards}.log",
    benchmark:
        "benchmarks/call_variants_shard/{study}.{site}.{patient}.{shard}-of-{shards}.tsv"
    wildcard_constraints:
        patient=SHARDED,
    params:
        regions=lambda wildcards, input: option("--regions", input.regions),
        haploid=lambda wildcards, input: option("--ploidy-bed", input.haploid),
        panel=lambda wildcards, input: option("--panel", input.panel),
        recalibration=recalibration_option,
        shard=SHARD_OPTIONS,
        version=FEDCALL_VERSION,


rule gather_calls:
    input:
        parts=parts(
            "results/{study}/{site}/calls/{patient}.shards/{shard}-of-{shards}.vcf.gz"
        ),
    output:
        calls="results/{study}/{site}/calls/{patient}.vcf.gz",
        index=f"results/{{study}}/{{site}}/calls/{{patient}}.vcf.gz{CALLS_INDEX}",
    log:
        "logs/gather_calls/{study}.{site}.{patient}.log",
    benchmark:
        "benchmarks/gather_calls/{study}.{site}.{patient}.tsv"
    wildcard_constraints:
        patient=SHARDED,
    conda:
        "../envs/reads.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 1000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        version=FEDCALL_VERSION,
    shell:
        "fedcall gather --output {output.calls} {input.parts} > {log} 2>&1"


use rule call_baseline as call_baseline_shard with:
    output:
        calls=temp(
            "results/{study}/{site}/baselines/{caller}/{patient}.shards/{shard}-of-{shards}.vcf.gz"
        ),
        index=temp(
            f"results/{{study}}/{{site}}/baselines/{{caller}}/{{patient}}.shards/{{shard}}-of-{{shards}}.vcf.gz{CALLS_INDEX}"
        ),
    log:
        "logs/call_baseline_shard/{study}.{site}.{caller}.{patient}.{shard}-of-{shards}.log",
    benchmark:
        "benchmarks/call_baseline_shard/{study}.{site}.{caller}.{patient}.{shard}-of-{shards}.tsv"
    wildcard_constraints:
        patient=SHARDED,
        caller="likelihood|initial",
    params:
        regions=lambda wildcards, input: option("--regions", input.regions),
        haploid=lambda wildcards, input: option("--ploidy-bed", input.haploid),
        panel=lambda wildcards, input: option("--panel", input.panel),
        recalibration=recalibration_option,
        shard=SHARD_OPTIONS,
        version=FEDCALL_VERSION,


use rule gather_calls as gather_baseline with:
    input:
        parts=parts(
            "results/{study}/{site}/baselines/{caller}/{patient}.shards/{shard}-of-{shards}.vcf.gz"
        ),
    output:
        calls="results/{study}/{site}/baselines/{caller}/{patient}.vcf.gz",
        index=f"results/{{study}}/{{site}}/baselines/{{caller}}/{{patient}}.vcf.gz{CALLS_INDEX}",
    log:
        "logs/gather_baseline/{study}.{site}.{caller}.{patient}.log",
    benchmark:
        "benchmarks/gather_baseline/{study}.{site}.{caller}.{patient}.tsv"
    wildcard_constraints:
        patient=SHARDED,
        caller="likelihood|initial",
