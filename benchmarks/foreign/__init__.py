"""Parts of benchmarks/foreign_heads.py: bringing heads of any origin before the simulated rig's cameras."""
