"""Which base qualities a patient's reads are used with: those reported, or lower ones by the patient's own table."""
