# Written by tests/conda/write_dockerfile.py: snakemake --containerize, and fedcall put into every environment.
FROM condaforge/miniforge3:latest
LABEL io.github.snakemake.containerized="true"
LABEL io.github.snakemake.conda_env_hash="67c04dd0fd0f140d7393c6c702489a2259c17b243d39c0c8e30f35165b3632b9"
# Conda environment:
#   source: workflow/envs/align.yaml
#   prefix: /conda-envs/dc9559012ba7633d3d76cfacb79da08b
#   # Reads to alignments. minimap2 comes with pyminimap2, which is on PyPI only: align.post-deploy.sh adds it, and fedcall
#   # itself from this checkout. Pins agree with constraints.txt.
#   channels:
#     - conda-forge
#     - bioconda
#     - nodefaults
#   dependencies:
#     - python =3.11
#     - pip =26.3
#     - editables =0.6
#     - hatchling =1.33.0
#     - pysam =0.24.1
#     - rich =14.3.4
#     - typer =0.20.1
RUN mkdir -p /conda-envs/dc9559012ba7633d3d76cfacb79da08b
COPY workflow/envs/align.yaml /conda-envs/dc9559012ba7633d3d76cfacb79da08b/environment.yaml
# Conda environment:
#   source: workflow/envs/experiments.yaml
#   prefix: /conda-envs/b6661b8b3f188eb263e35506353bb3ec
#   # Experiments on made-up people: training, averaging and pages in one process (audit, accuracy against privacy).
#   # fedcall itself comes from this checkout (experiments.post-deploy.sh). Pins agree with constraints.txt.
#   channels:
#     - conda-forge
#     - bioconda
#     - nodefaults
#   dependencies:
#     - python =3.11
#     - pip =26.3
#     - editables =0.6
#     - hatchling =1.33.0
#     - cryptography =50.0.2
#     - dp-accounting =0.6.0
#     - flwr =1.41.0
#     - httpx =0.28.1
#     - jinja2 =3.1.6
#     - matplotlib-base =3.11.2
#     - numba =0.68.1
#     - numpy =2.4.6
#     - opacus =1.6.0
#     - pydantic =2.14.3
#     - pysam =0.24.1
#     - python-isal =1.9.1
#     - pytorch =2.13.0
#     - pyyaml =6.0.3
#     - rfc8785 =0.1.4
#     - rich =14.3.4
#     - safetensors =0.8.0
#     - scipy =1.17.1
#     - typer =0.20.1
RUN mkdir -p /conda-envs/b6661b8b3f188eb263e35506353bb3ec
COPY workflow/envs/experiments.yaml /conda-envs/b6661b8b3f188eb263e35506353bb3ec/environment.yaml
# Conda environment:
#   source: workflow/envs/federation.yaml
#   prefix: /conda-envs/8f3bc9d65b979c5cece86b516dd2d59b
#   # Keys, study, and the exchanges with the aggregator, which the rehearsal starts itself.
#   # fedcall itself comes from this checkout (federation.post-deploy.sh). Pins agree with constraints.txt.
#   channels:
#     - conda-forge
#     - bioconda
#     - nodefaults
#   dependencies:
#     - python =3.11
#     - pip =26.3
#     - editables =0.6
#     - hatchling =1.33.0
#     - cryptography =50.0.2
#     - dp-accounting =0.6.0
#     - flwr =1.41.0
#     - httpx =0.28.1
#     - numpy =2.4.6
#     - pydantic =2.14.3
#     - pyyaml =6.0.3
#     - rfc8785 =0.1.4
#     - rich =14.3.4
#     - safetensors =0.8.0
#     - scipy =1.17.1
#     - typer =0.20.1
RUN mkdir -p /conda-envs/8f3bc9d65b979c5cece86b516dd2d59b
COPY workflow/envs/federation.yaml /conda-envs/8f3bc9d65b979c5cece86b516dd2d59b/environment.yaml
# Conda environment:
#   source: workflow/envs/freebayes.yaml
#   prefix: /conda-envs/480c432ae7911676ca4501031af98991
#   # freebayes, beside the study's models.
#   channels:
#     - conda-forge
#     - bioconda
#     - nodefaults
#   dependencies:
#     - freebayes =1.3.10
RUN mkdir -p /conda-envs/480c432ae7911676ca4501031af98991
COPY workflow/envs/freebayes.yaml /conda-envs/480c432ae7911676ca4501031af98991/environment.yaml
# Conda environment:
#   source: workflow/envs/gatk.yaml
#   prefix: /conda-envs/54be5713c04e7394bde3b4e384e35395
#   # GATK4's HaplotypeCaller and GenotypeGVCFs, beside the study's models; it brings its Java.
#   channels:
#     - conda-forge
#     - bioconda
#     - nodefaults
#   dependencies:
#     - gatk4 =4.6.2.0
RUN mkdir -p /conda-envs/54be5713c04e7394bde3b4e384e35395
COPY workflow/envs/gatk.yaml /conda-envs/54be5713c04e7394bde3b4e384e35395/environment.yaml
# Conda environment:
#   source: workflow/envs/reads.yaml
#   prefix: /conda-envs/9db8ec33af038c80d180948bfbbe3917
#   # Reads, pileups, calls, truth sets: htslib (samtools and bcftools) through pysam, kernels by numba.
#   # fedcall itself comes from this checkout (reads.post-deploy.sh). Pins agree with constraints.txt.
#   channels:
#     - conda-forge
#     - bioconda
#     - nodefaults
#   dependencies:
#     - python =3.11
#     - pip =26.3
#     - editables =0.6
#     - hatchling =1.33.0
#     - cryptography =50.0.2
#     - numba =0.68.1
#     - numpy =2.4.6
#     - pydantic =2.14.3
#     - pysam =0.24.1
#     - python-isal =1.9.1
#     - pyyaml =6.0.3
#     - rfc8785 =0.1.4
#     - rich =14.3.4
#     - safetensors =0.8.0
#     - scipy =1.17.1
#     - typer =0.20.1
RUN mkdir -p /conda-envs/9db8ec33af038c80d180948bfbbe3917
COPY workflow/envs/reads.yaml /conda-envs/9db8ec33af038c80d180948bfbbe3917/environment.yaml
# Conda environment:
#   source: workflow/envs/reporting.yaml
#   prefix: /conda-envs/e2e8c2c99b759f7a0a844c270cf3897e
#   # Reports.
#   # fedcall itself comes from this checkout (reporting.post-deploy.sh). Pins agree with constraints.txt.
#   channels:
#     - conda-forge
#     - bioconda
#     - nodefaults
#   dependencies:
#     - python =3.11
#     - pip =26.3
#     - editables =0.6
#     - hatchling =1.33.0
#     - cryptography =50.0.2
#     - dp-accounting =0.6.0
#     - jinja2 =3.1.6
#     - matplotlib-base =3.11.2
#     - numpy =2.4.6
#     - pandas =3.1.1
#     - pydantic =2.14.3
#     - pyyaml =6.0.3
#     - rfc8785 =0.1.4
#     - rich =14.3.4
#     - safetensors =0.8.0
#     - scipy =1.17.1
#     - typer =0.20.1
RUN mkdir -p /conda-envs/e2e8c2c99b759f7a0a844c270cf3897e
COPY workflow/envs/reporting.yaml /conda-envs/e2e8c2c99b759f7a0a844c270cf3897e/environment.yaml
# Conda environment:
#   source: workflow/envs/training.yaml
#   prefix: /conda-envs/e7b7e476de22dc1b30467f84a54a044b
#   # Training with differential privacy.
#   # fedcall itself comes from this checkout (training.post-deploy.sh). Pins agree with constraints.txt.
#   channels:
#     - conda-forge
#     - bioconda
#     - nodefaults
#   dependencies:
#     - python =3.11
#     - pip =26.3
#     - editables =0.6
#     - hatchling =1.33.0
#     - cryptography =50.0.2
#     - dp-accounting =0.6.0
#     - numba =0.68.1
#     - numpy =2.4.6
#     - opacus =1.6.0
#     - pydantic =2.14.3
#     - pysam =0.24.1
#     - python-isal =1.9.1
#     - pytorch =2.13.0
#     - pyyaml =6.0.3
#     - rfc8785 =0.1.4
#     - rich =14.3.4
#     - safetensors =0.8.0
#     - scipy =1.17.1
#     - typer =0.20.1
RUN mkdir -p /conda-envs/e7b7e476de22dc1b30467f84a54a044b
COPY workflow/envs/training.yaml /conda-envs/e7b7e476de22dc1b30467f84a54a044b/environment.yaml

RUN conda env create --prefix /conda-envs/dc9559012ba7633d3d76cfacb79da08b --file /conda-envs/dc9559012ba7633d3d76cfacb79da08b/environment.yaml && \
    conda env create --prefix /conda-envs/b6661b8b3f188eb263e35506353bb3ec --file /conda-envs/b6661b8b3f188eb263e35506353bb3ec/environment.yaml && \
    conda env create --prefix /conda-envs/8f3bc9d65b979c5cece86b516dd2d59b --file /conda-envs/8f3bc9d65b979c5cece86b516dd2d59b/environment.yaml && \
    conda env create --prefix /conda-envs/480c432ae7911676ca4501031af98991 --file /conda-envs/480c432ae7911676ca4501031af98991/environment.yaml && \
    conda env create --prefix /conda-envs/54be5713c04e7394bde3b4e384e35395 --file /conda-envs/54be5713c04e7394bde3b4e384e35395/environment.yaml && \
    conda env create --prefix /conda-envs/9db8ec33af038c80d180948bfbbe3917 --file /conda-envs/9db8ec33af038c80d180948bfbbe3917/environment.yaml && \
    conda env create --prefix /conda-envs/e2e8c2c99b759f7a0a844c270cf3897e --file /conda-envs/e2e8c2c99b759f7a0a844c270cf3897e/environment.yaml && \
    conda env create --prefix /conda-envs/e7b7e476de22dc1b30467f84a54a044b --file /conda-envs/e7b7e476de22dc1b30467f84a54a044b/environment.yaml && \
    conda clean --all -y

COPY pyproject.toml constraints.txt README.md LICENSE /fedcall/
COPY src /fedcall/src
COPY workflow /fedcall/workflow
RUN export FEDCALL_CHECKOUT=/fedcall && \
    conda run --prefix /conda-envs/dc9559012ba7633d3d76cfacb79da08b bash /fedcall/workflow/envs/align.post-deploy.sh && \
    conda run --prefix /conda-envs/b6661b8b3f188eb263e35506353bb3ec bash /fedcall/workflow/envs/experiments.post-deploy.sh && \
    conda run --prefix /conda-envs/8f3bc9d65b979c5cece86b516dd2d59b bash /fedcall/workflow/envs/federation.post-deploy.sh && \
    conda run --prefix /conda-envs/9db8ec33af038c80d180948bfbbe3917 bash /fedcall/workflow/envs/reads.post-deploy.sh && \
    conda run --prefix /conda-envs/e2e8c2c99b759f7a0a844c270cf3897e bash /fedcall/workflow/envs/reporting.post-deploy.sh && \
    conda run --prefix /conda-envs/e7b7e476de22dc1b30467f84a54a044b bash /fedcall/workflow/envs/training.post-deploy.sh
