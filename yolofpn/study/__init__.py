"""The ablation studies of the FPN paper."""
