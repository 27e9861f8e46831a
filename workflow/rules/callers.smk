# Other callers beside the study's models: GATK, DeepVariant and freebayes, each with its own environment or container.
# What they write is kept as they write it in results/{study}/{site}/callers; collect_calls brings it to the evaluation.


rule call_freebayes:
    input:
        **files_for_callers(),
    output:
        calls=temp("results/{study}/{site}/callers/freebayes/{patient}.vcf"),
        version="results/{study}/{site}/callers/freebayes/{patient}.version.txt",
    log:
        "logs/call_freebayes/{study}.{site}.{patient}.log",
    benchmark:
        "benchmarks/call_freebayes/{study}.{site}.{patient}.tsv"
    conda:
        "../envs/freebayes.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
        runtime=lambda wildcards, attempt: 1440 * attempt,
    params:
        or_say_so=lambda wildcards: or_say_so("call_freebayes", wildcards),
    shell:
        "(freebayes --version > {output.version} && freebayes --fasta-reference {input.reference} --targets {input.bed}"
        " --genotype-qualities --bam {input.alignments} > {output.calls}) 2> {log}"
        " {params.or_say_so}"


rule call_gatk:
    input:
        **files_for_callers(),
        dictionary=dictionary_for_callers,
    output:
        gvcf="results/{study}/{site}/callers/gatk/{patient}.g.vcf.gz",
        gvcf_index="results/{study}/{site}/callers/gatk/{patient}.g.vcf.gz.tbi",
        calls="results/{study}/{site}/callers/gatk/{patient}.vcf.gz",
        index="results/{study}/{site}/callers/gatk/{patient}.vcf.gz.tbi",
        version="results/{study}/{site}/callers/gatk/{patient}.version.txt",
    log:
        "logs/call_gatk/{study}.{site}.{patient}.log",
    benchmark:
        "benchmarks/call_gatk/{study}.{site}.{patient}.tsv"
    conda:
        "../envs/gatk.yaml"
    threads: 2
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
        runtime=lambda wildcards, attempt: 1440 * attempt,
    params:
        or_say_so=lambda wildcards: or_say_so("call_gatk", wildcards),
        java=lambda wildcards, resources: f"-Xmx{resources.mem_mb * 3 // 4}m",
    shell:
        "(gatk --version > {output.version} &&"
        " gatk --java-options {params.java:q} HaplotypeCaller --reference {input.reference} --input {input.alignments}"
        " --intervals {input.bed} --emit-ref-confidence GVCF --native-pair-hmm-threads {threads}"
        " --tmp-dir {resources.tmpdir:q} --output {output.gvcf} &&"
        " gatk --java-options {params.java:q} GenotypeGVCFs --reference {input.reference} --variant {output.gvcf}"
        " --intervals {input.bed} --tmp-dir {resources.tmpdir:q} --output {output.calls}) 2> {log} >&2"
        " {params.or_say_so}"


rule call_deepvariant:
    input:
        **files_for_callers(),
    output:
        gvcf="results/{study}/{site}/callers/deepvariant/{patient}.g.vcf.gz",
        calls="results/{study}/{site}/callers/deepvariant/{patient}.vcf.gz",
        version="results/{study}/{site}/callers/deepvariant/{patient}.version.txt",
        work=temp(
            directory("results/{study}/{site}/callers/deepvariant/{patient}.work")
        ),
    log:
        "logs/call_deepvariant/{study}.{site}.{patient}.log",
    benchmark:
        "benchmarks/call_deepvariant/{study}.{site}.{patient}.tsv"
    container:
        CONFIG.deepvariant_image
    threads: 4
    resources:
        mem_mb=lambda wildcards, attempt: 16000 * attempt,
        runtime=lambda wildcards, attempt: 1440 * attempt,
    params:
        or_say_so=lambda wildcards: or_say_so("call_deepvariant", wildcards),
        model=lambda wildcards: RUN.by_name[wildcards.patient].platform,
    shell:
        "(run_deepvariant --version > {output.version} &&"
        ' echo "image ${{APPTAINER_CONTAINER:-${{SINGULARITY_CONTAINER:-}}}}" >> {output.version} &&'
        " run_deepvariant --model_type={params.model} --ref={input.reference} --reads={input.alignments}"
        " --regions={input.bed} --sample_name={wildcards.patient} --num_shards={threads} --novcf_stats_report"
        " --intermediate_results_dir={output.work} --output_vcf={output.calls} --output_gvcf={output.gvcf})"
        " 2> {log} >&2 {params.or_say_so}"


rule collect_calls:
    input:
        calls=calls_of_caller,
        version="results/{study}/{site}/callers/{caller}/{patient}.version.txt",
        reference=reference_of,
        reference_index=reference_index_of,
    output:
        calls="results/{study}/{site}/baselines/{caller}/{patient}.vcf.gz",
        index=f"results/{{study}}/{{site}}/baselines/{{caller}}/{{patient}}.vcf.gz{CALLS_INDEX}",
    log:
        "logs/collect_calls/{study}.{site}.{caller}.{patient}.log",
    benchmark:
        "benchmarks/collect_calls/{study}.{site}.{caller}.{patient}.tsv"
    wildcard_constraints:
        caller="freebayes|gatk|deepvariant",
    conda:
        "../envs/reads.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
        runtime=lambda wildcards, attempt: 60 * attempt,
    params:
        image=lambda wildcards: (
            option("--image", CONFIG.deepvariant_image)
            if wildcards.caller == "deepvariant"
            else ""
        ),
        version=FEDCALL_VERSION,
    shell:
        "fedcall callers collect --caller {wildcards.caller} --calls {input.calls} --version-file {input.version}"
        " {params.image} --reference {input.reference:q} --sample {wildcards.patient} --output {output.calls}"
        " > {log} 2>&1"
